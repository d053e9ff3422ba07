"""Every Reason that a pod can give, from what scheduler and kubelet of Kubernetes 1.37 really say."""

from __future__ import annotations

import pytest

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.diagnosis import diagnose
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import Finding, Json, Observed
from tests.core.containers import LOOP, container, ended, engine_pod, waiting
from tests.core.samples import NOW, pod, resource, stamp

ENGINE, CACHE, ROUTER = Component.ENGINE, Component.CACHE_SERVER, Component.ROUTER


def of_pods(*pods: Json) -> tuple[Finding, ...]:
    return diagnose(Observed(resource(), (), pods), (), NOW)


def unscheduled(message: str, ago: float = 60) -> Json:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": stamp(ago),
    }
    return pod(ENGINE, phase="Pending", conditions=[condition])


def not_started(ago: float, *, sandbox: str | None, reason: str = "PodInitializing") -> Json:
    conditions = [{"type": "PodReadyToStartContainers", "status": sandbox}] if sandbox else []
    gate = waiting(reason, name="gate")
    return engine_pod(
        waiting("PodInitializing"), init=(gate,), startTime=stamp(ago), conditions=conditions, phase="Pending"
    )


CLAIM = (
    '0/3 nodes are available: persistentvolumeclaim "models" not found. preemption: 0/3 nodes are available: '
    "3 Preemption is not helpful for scheduling."
)
GPU = (
    "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: "
    "3 No preemption victims found for incoming pod."
)
PULL = (
    'failed to pull and unpack image "docker.io/library/nope:1": failed to resolve reference '
    '"docker.io/library/nope:1": not found'
)
NOT_FOUND_BINARY = (
    'failed to create containerd task: failed to create shim task: OCI runtime create failed: exec: "llmcache-gate": '
    "executable file not found in $PATH: unknown"
)

POD_REASONS: dict[str, tuple[Json, Reason, tuple[str, ...]]] = {
    "claim": (unscheduled(CLAIM), Reason.VOLUME_CLAIM_MISSING, ("PersistentVolumeClaim models", "spec.model.uri")),
    "no GPU": (unscheduled(GPU), Reason.UNSCHEDULABLE, ("Insufficient nvidia.com/gpu", "add a node")),
    "unbound claim": (
        unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
        Reason.UNSCHEDULABLE,
        ("no volume yet", "kubectl describe pvc"),
    ),
    "first pull": (
        engine_pod(waiting("ErrImagePull", PULL, image="nope:1")),
        Reason.IMAGE_PULL_FAILED,
        ("nope:1", "spec.engine.image"),
    ),
    "later pull": (
        engine_pod(
            waiting("ImagePullBackOff", f'Back-off pulling image "nope:1": ErrImagePull: {PULL}', image="nope:1")
        ),
        Reason.IMAGE_PULL_FAILED,
        ("not found", "spec.engine.image"),
    ),
    "no image name": (
        engine_pod(
            waiting(
                "InvalidImageName", 'Failed to apply default image tag "A B": couldn\'t parse image name', image="A B"
            )
        ),
        Reason.IMAGE_PULL_FAILED,
        ("couldn't parse", "spec.engine.image"),
    ),
    "gate's pull": (
        engine_pod(init=(waiting("ImagePullBackOff", "Back-off", name="gate", image="router:1"),)),
        Reason.IMAGE_PULL_FAILED,
        ("router:1", "the operator's router image"),
    ),
    "model's pull": (
        engine_pod(
            init=(
                waiting(
                    "ImagePullBackOff",
                    'Back-off pulling image "hub/model:1": ErrImagePull: …',
                    name="gate",
                    image="router:1",
                ),
            ),
            spec={
                "volumes": [
                    {"name": "run", "emptyDir": {}},
                    {"name": "model-source", "image": {"reference": "hub/model:1"}},
                ]
            },
        ),
        Reason.IMAGE_PULL_FAILED,
        ("image hub/model:1 can't be pulled", "spec.model.uri"),
    ),
    "no secret": (
        engine_pod(init=(waiting("CreateContainerConfigError", 'secret "hub" not found', name="fetch"),)),
        Reason.SECRET_MISSING,
        ("Secret hub does not exist",),
    ),
    "no key": (
        engine_pod(waiting("CreateContainerConfigError", "couldn't find key token in Secret team/hub")),
        Reason.SECRET_MISSING,
        ("Secret team/hub has no key token",),
    ),
    "no config map": (
        engine_pod(waiting("CreateContainerConfigError", 'configmap "flags" not found')),
        Reason.CONFIG_MAP_MISSING,
        ("ConfigMap flags does not exist",),
    ),
    "no key in the config map": (
        engine_pod(waiting("CreateContainerConfigError", "couldn't find key a in ConfigMap team/flags")),
        Reason.CONFIG_MAP_MISSING,
        ("ConfigMap team/flags has no key a",),
    ),
    "root": (
        engine_pod(
            waiting("CreateContainerConfigError", 'container has runAsNonRoot and image will run as root (pod: "x")')
        ),
        Reason.CONTAINER_CONFIG_INVALID,
        ("will run as root",),
    ),
    "no program": (
        engine_pod(init=(waiting("RunContainerError", NOT_FOUND_BINARY, name="gate"),)),
        Reason.CONTAINER_CONFIG_INVALID,
        ("executable file not found",),
    ),
    "no program, later": (
        engine_pod(init=(container("gate", restarts=2, last=ended(128, "StartError", NOT_FOUND_BINARY), **LOOP),)),
        Reason.CONTAINER_CONFIG_INVALID,
        ("executable file not found",),
    ),
    "download": (
        engine_pod(
            init=(container("fetch", restarts=1, last=ended(message="404 Client Error\nRepository Not Found"), **LOOP),)
        ),
        Reason.MODEL_FETCH_FAILED,
        ("404 Client Error | Repository Not Found",),
    ),
    "empty model": (
        engine_pod(
            init=(container("gate", restarts=1, last=ended(message="/llmcache/source holds no config.json"), **LOOP),)
        ),
        Reason.MODEL_UNUSABLE,
        ("holds no config.json",),
    ),
    "out of memory": (
        engine_pod(container(restarts=2, last=ended(137, "OOMKilled"), **LOOP)),
        Reason.OUT_OF_MEMORY,
        ("spec.engine.resources.limits.memory",),
    ),
    "guard out of memory": (
        engine_pod(init=(container("l2-guard", restarts=2, last=ended(137, "OOMKilled"), **LOOP),)),
        Reason.OUT_OF_MEMORY,
        ("The operator sets that limit",),
    ),
    "somebody's sidecar out of memory": (
        engine_pod(container("proxy", restarts=2, last=ended(137, "OOMKilled"), **LOOP)),
        Reason.OUT_OF_MEMORY,
        ("Raise its limit",),
    ),
    "silent crash": (
        engine_pod(container(restarts=3, last=ended(139), **LOOP)),
        Reason.ENGINE_CRASHING,
        ("exit code 139", "kubectl logs chat-engine-0 --container engine --previous"),
    ),
    "crash with words": (
        engine_pod(
            container(
                restarts=3, last=ended(2, message="usage: …\nvllm: error: unrecognized arguments: --nope\n"), **LOOP
            )
        ),
        Reason.ENGINE_CRASHING,
        ("exit code 2", "unrecognized arguments: --nope"),
    ),
    "crash that nobody remembers": (engine_pod(container(restarts=3, **LOOP)), Reason.ENGINE_CRASHING, ("unknown",)),
    "no volume": (not_started(90, sandbox="False"), Reason.POD_NOT_STARTING, ("kubectl describe pod chat-engine-0",)),
}


@pytest.mark.parametrize("cause", POD_REASONS)
def test_a_pod_tells_its_cause_and_what_to_do(cause: str) -> None:
    seen, reason, words = POD_REASONS[cause]

    (finding,) = of_pods(seen)

    assert finding.reason is reason
    assert finding.component == ENGINE.value
    assert all(word in finding.message for word in words), finding.message
    assert ".." not in finding.message
    assert not finding.rejected


@pytest.mark.parametrize(
    ("component", "name", "reason", "field"),
    [
        (CACHE, "cache-server", Reason.CACHE_SERVER_CRASHING, "spec.cache.memory"),
        (ROUTER, "router", Reason.ROUTER_CRASHING, "spec.router.resources.limits.memory"),
    ],
)
def test_every_part_has_its_own_reason_and_field(component: Component, name: str, reason: Reason, field: str) -> None:
    crash = pod(component, ready=False, containerStatuses=[container(name, restarts=2, last=ended(), **LOOP)])
    hungry = pod(
        component, ready=False, containerStatuses=[container(name, restarts=2, last=ended(137, "OOMKilled"), **LOOP)]
    )

    assert of_pods(crash)[0].reason is reason
    assert of_pods(hungry)[0].reason is Reason.OUT_OF_MEMORY
    assert field in of_pods(hungry)[0].message


def over(phase: str) -> Json:
    return engine_pod(container(restarts=1, terminated=ended()), phase=phase, reason="Evicted")


def leaving() -> Json:
    seen = engine_pod(container(restarts=2, last=ended(), **LOOP))
    return seen | {"metadata": seen["metadata"] | {"deletionTimestamp": stamp()}}


RUNNING: Json = {"running": {"startedAt": stamp(5)}}
NO_FINDING = {
    "a healthy pod": pod(
        ENGINE, containerStatuses=[container(running={"startedAt": stamp(3600)}) | {"ready": True, "started": True}]
    ),
    "a pod without a status": {"metadata": pod(ENGINE)["metadata"]},
    "a scheduler that has just begun": unscheduled(GPU, ago=5),
    "a pod that has just got its node": not_started(30, sandbox="False"),
    "a large image on its way": not_started(1200, sandbox="True"),
    "an engine on its way": engine_pod(container(**RUNNING)),
    "a gate that waits": engine_pod(
        waiting("PodInitializing"),
        init=(container("gate", running={"startedAt": stamp(900)}) | {"started": True},),
        startTime=stamp(900),
    ),
    "a first failure": engine_pod(container(restarts=0, terminated=ended())),
    "an engine on its way after one crash": engine_pod(container(restarts=1, last=ended(), **RUNNING)),
    "an engine on its way after it had served for long": engine_pod(
        container(restarts=9, last=ended(137, lasted=7200), **RUNNING)
    ),
    "an engine that ended well before": engine_pod(container(restarts=9, last=ended(0), **RUNNING)),
    "a gate that waits after crashes": engine_pod(
        init=(container("gate", restarts=3, last=ended(ago=90), running={"startedAt": stamp(80)}) | {"started": True},)
    ),
    "an evicted pod": over("Failed"),
    "a pod that is done": over("Succeeded"),
    "a pod on its way out": leaving(),
}


@pytest.mark.parametrize("state", NO_FINDING)
def test_what_only_needs_time_is_no_finding(state: str) -> None:
    assert of_pods(NO_FINDING[state]) == ()


LOOPING = {
    "it waits": container(restarts=2, last=ended(3), **LOOP),
    "it has just ended again": container(restarts=2, terminated=ended(3)),
    "it runs again": container(restarts=3, last=ended(3), **RUNNING),
    "it has loaded for long": container(restarts=3, last=ended(3, ago=400), running={"startedAt": stamp(399)}),
}


@pytest.mark.parametrize("moment", LOOPING)
def test_a_crash_loop_is_one_all_the_time_so_that_conditions_do_not_flap(moment: str) -> None:
    (finding,) = of_pods(engine_pod(LOOPING[moment]))

    assert finding.reason is Reason.ENGINE_CRASHING
    assert "exit code 3" in finding.message


def test_a_crash_loop_of_an_init_container_lasts_into_its_next_run() -> None:
    """A running init container counts as started: it has no probe."""
    gate = container("gate", restarts=2, last=ended(message="no config.json"), **RUNNING) | {"started": True}

    assert [finding.reason for finding in of_pods(engine_pod(init=(gate,)))] == [Reason.MODEL_UNUSABLE]


def test_an_engine_that_lost_its_readiness_later_is_not_crashing() -> None:
    old_crash = container(restarts=2, last=ended(ago=8000), running={"startedAt": stamp(7999)}) | {"started": True}

    assert of_pods(engine_pod(old_crash)) == ()


def test_a_long_output_is_told_from_its_end() -> None:
    noisy = ended(message="\n".join(["noise"] * 500 + ["RuntimeError: the cause"]))
    (finding,) = of_pods(engine_pod(container(restarts=2, last=noisy, **LOOP)))

    assert finding.message.endswith("RuntimeError: the cause")
    assert len(finding.message) < 800
