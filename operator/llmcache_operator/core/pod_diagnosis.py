"""Why a pod does not come up, from its status as scheduler and kubelet write it (Kubernetes 1.37).

Reasons and messages: pkg/kubelet/images/types.go, pkg/kubelet/kubelet_pods.go (environment),
pkg/kubelet/kuberuntime and pkg/scheduler/framework/plugins/volumebinding of k8s.io/kubernetes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.moment import age, seconds
from llmcache_operator.core.pod_start import config_map_missing, secret_missing, unstarted_findings
from llmcache_operator.core.target import COMPONENT_LABEL, Component
from llmcache_operator.core.values import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmcache_operator.core.values import Complaint, Json

# Schedulers and volume binders need a moment; a cause that holds longer is one that somebody must see to.
UNSCHEDULABLE_SECONDS = 15.0
# A run longer than this ends a crash loop: the kubelet, too, starts its back-off anew then.
LOOP_SECONDS = 600.0
# A crash loop is not over because the next run has begun; init containers have no probe that would tell.
NEXT_RUN_SECONDS = 30.0

_CRASHING = {
    Component.ENGINE.value: Reason.ENGINE_CRASHING,
    Component.CACHE_SERVER.value: Reason.CACHE_SERVER_CRASHING,
    Component.ROUTER.value: Reason.ROUTER_CRASHING,
}
_BY_CONTAINER = {
    "gate": Reason.MODEL_UNUSABLE,
    "fetch": Reason.MODEL_FETCH_FAILED,
    "cache-server": Reason.CACHE_SERVER_CRASHING,
    "l2-guard": Reason.L2_CRASHING,
    "l2-sweeper": Reason.L2_CRASHING,
    "valkey": Reason.L2_CRASHING,
}
_MEMORY_FIELD = {
    "engine": "spec.engine.resources.limits.memory",
    "cache-server": "spec.cache.memory or spec.cache.capacity",
    "valkey": "spec.cache.l2.valkey.managed.memory",
    "router": "spec.router.resources.limits.memory",
}
_IMAGE_FIELD = {
    "engine": "spec.engine.image",
    "fetch": "spec.engine.image",
    "cache-server": "spec.cache.image",
    "valkey": "spec.cache.l2.valkey.managed.image, or the operator's Valkey image",
    "router": "the operator's router image",
    "gate": "the operator's router image",
    "l2-guard": "the operator's router image",
    "l2-sweeper": "the operator's router image",
}
_PULL_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
)
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


def pod_findings(pod: Json, complaints: Iterable[Complaint], now: float) -> Iterator[Finding]:
    """Yield what keeps a pod from running. Pods that are over or on their way out are none of its business."""
    status = pod.get("status", {})
    if "deletionTimestamp" in pod["metadata"] or status.get("phase") in ("Failed", "Succeeded"):
        return
    yield from _unscheduled(pod, now)
    found = False
    for container in _containers(pod):
        for finding in _container_findings(container, pod, now):
            found = True
            yield finding
    if not found:
        yield from unstarted_findings(pod, _component(pod), complaints, now)


def _component(pod: Json) -> str:
    return str(pod["metadata"].get("labels", {}).get(COMPONENT_LABEL, ""))


def _containers(pod: Json) -> list[Json]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _condition(pod: Json, kind: str) -> Json:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _unscheduled(pod: Json, now: float) -> Iterator[Finding]:
    condition, name = _condition(pod, "PodScheduled"), pod["metadata"]["name"]
    if condition.get("status") != "False" or age(condition.get("lastTransitionTime"), now) < UNSCHEDULABLE_SECONDS:
        return
    message = condition.get("message", "").rstrip(".")
    reason = Reason.UNSCHEDULABLE
    text = f"Pod {name} fits on no node: {message}. Ask for less, or add a node that has it."
    if claim := re.search(r'persistentvolumeclaim "([^"]+)" not found', message):
        reason = Reason.VOLUME_CLAIM_MISSING
        text = (
            f"Pod {name} waits for PersistentVolumeClaim {claim[1]}, which does not exist. "
            "Create it, or correct its name: in spec.model.uri, spec.cache.l2.fileSystem.claimName or a template."
        )
    elif "unbound immediate PersistentVolumeClaims" in message:
        text = f"Pod {name} waits for a PersistentVolumeClaim that has no volume yet. See: kubectl describe pvc"
    yield Finding(_component(pod), reason, text)


def _container_findings(container: Json, pod: Json, now: float) -> Iterator[Finding]:
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "").rstrip(".")
    if reason in _PULL_REASONS:
        image, field = _image_at_fault(container, pod, message)
        text = f"{_where(pod, container)}: image {image} can't be pulled: {message}. Correct {field}, or its secret."
        yield Finding(_component(pod), Reason.IMAGE_PULL_FAILED, text)
    elif reason in _CONFIG_REASONS:
        yield _misconfigured(pod, container, message)
    elif (last := _crash(container, now)) is not None:
        yield _crashing(pod, container, last)


def _where(pod: Json, container: Json) -> str:
    return f"Pod {pod['metadata']['name']}, container {container['name']}"


def _image_at_fault(container: Json, pod: Json, message: str) -> tuple[str, str]:
    """Return the image and the field that names it: the kubelet blames the container for its image volumes too."""
    for volume in pod.get("spec", {}).get("volumes", []):
        reference = volume.get("image", {}).get("reference")
        if reference and reference in message:
            return reference, "spec.model.uri"
    return container["image"], _IMAGE_FIELD.get(container["name"], "its image")


def _misconfigured(pod: Json, container: Json, message: str) -> Finding:
    component, where = _component(pod), _where(pod, container)
    if what := secret_missing(message):
        return Finding(component, Reason.SECRET_MISSING, f"{where}: {what}. Create it, or correct the reference.")
    if what := config_map_missing(message):
        return Finding(component, Reason.CONFIG_MAP_MISSING, f"{where}: {what}. Create it, or correct the reference.")
    return Finding(component, Reason.CONTAINER_CONFIG_INVALID, f"{where} can't be started: {message}.")


def _crash(container: Json, now: float) -> Json | None:
    """Return how the last run ended, if the container is in a crash loop: between two runs, or in the next one.

    A loop that counted only while it waits would come and go with every run.
    """
    state: Json = container.get("state", {})
    last: Json = container.get("lastState", {}).get("terminated", {})
    ended: Json = state.get("terminated", {})
    restarts = container.get("restartCount", 0)
    if state.get("waiting", {}).get("reason") == "CrashLoopBackOff":
        return last
    if ended.get("exitCode") and restarts:
        return ended
    looping = restarts > 1 and last.get("exitCode") and _lasted(last) < LOOP_SECONDS
    running = state.get("running")
    if running and looping and not container.get("ready"):
        young = age(running.get("startedAt"), now) < NEXT_RUN_SECONDS
        return last if young or not container.get("started") else None
    return None


def _lasted(run: Json) -> float:
    started, finished = run.get("startedAt"), run.get("finishedAt")
    return seconds(finished) - seconds(started) if started and finished else 0.0


def _crashing(pod: Json, container: Json, last: Json) -> Finding:
    component, where = _component(pod), _where(pod, container)
    if last.get("reason") == "StartError":
        return _misconfigured(pod, container, last.get("message", "").rstrip("."))
    if last.get("reason") == "OOMKilled":
        text = f"{where} was killed for using more memory than its limit. {_more_memory(container['name'])}"
        return Finding(component, Reason.OUT_OF_MEMORY, text)
    reason = _BY_CONTAINER.get(container["name"], _CRASHING.get(component, Reason.CONTAINER_CONFIG_INVALID))
    logs = f"kubectl logs {pod['metadata']['name']} --container {container['name']} --previous"
    said = _tail(last.get("message", ""))
    code = last.get("exitCode", "unknown")
    return Finding(
        component, reason, f"{where} ends with exit code {code}" + (f": {said}" if said else f". See: {logs}")
    )


def _more_memory(container: str) -> str:
    if container in _IMAGE_FIELD and container not in _MEMORY_FIELD:
        return "The operator sets that limit, and it should do: please report it."
    return f"Raise {_MEMORY_FIELD.get(container, 'its limit')}."


def _tail(message: str, limit: int = 600) -> str:
    """Return the last lines of a container's output, where programs say why they end."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    text = " | ".join(lines)
    return text if len(text) <= limit else "…" + text[-limit:]
