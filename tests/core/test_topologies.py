"""Where LMCache servers stand, and what that makes of the pods."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.measured import Coverage, cache_status, coverage
from llmcache_operator.core.outcome import outcome
from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.rollout import Rollout, rollout
from llmcache_operator.core.sharing import apart
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import CacheSample, Observed
from llmcache_operator.core.window import Measurement
from tests.core.samples import NOW, SETTINGS, condition_of, find, live, planned, pod, resource, target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

GIB = 1 << 30
PER_ENGINE: dict[str, Any] = {"topology": "PerEngine", "memory": "2Gi"}


def engine_pod(**spec: Any) -> Json:
    made: Json = find(planned(**{"cache": PER_ENGINE} | spec), "Deployment", Component.ENGINE)["spec"]["template"]
    return dict(made["spec"])


def named(containers: list[Json], name: str) -> Json:
    return next(container for container in containers if container["name"] == name)


def connector(spec: Json) -> Json:
    args: list[str] = named(spec["containers"], "engine")["args"]
    config: Json = json.loads(args[args.index("--kv-transfer-config") + 1])["kv_connector_extra_config"]
    return config


def test_the_server_starts_before_the_engine_and_stops_after_it() -> None:
    """A native sidecar: the kubelet goes on to the next init container once its startup probe has passed."""
    sidecar, gate = engine_pod()["initContainers"]

    assert (sidecar["name"], gate["name"]) == ("cache-server", "gate")
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthcheck"
    assert "readinessProbe" not in sidecar, "an engine serves on while its server restarts"


def test_the_port_that_unpickles_is_on_loopback_only() -> None:
    spec = engine_pod()
    sidecar, gate = spec["initContainers"]
    args = sidecar["args"]

    assert args[args.index("--host") + 1] == "127.0.0.1"
    assert [port["containerPort"] for port in sidecar["ports"]] == [8080]
    assert gate["args"][:2] == ["--cache", "127.0.0.1:5555"]
    assert connector(spec)["lmcache.mp.host"] == "tcp://127.0.0.1"


def test_kv_moves_through_the_shared_memory_of_the_pod() -> None:
    spec = engine_pod()
    args = spec["initContainers"][0]["args"]
    shm = named(spec["volumes"], "shm")["emptyDir"]

    assert args[args.index("--shm-name") + 1]
    assert "--no-l1-use-lazy" in args
    assert connector(spec)["lmcache.mp.mp_transfer_mode"] == "engine_driven"
    assert shm == {"medium": "Memory", "sizeLimit": "4352Mi"}
    for container in (spec["initContainers"][0], named(spec["containers"], "engine")):
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "shm"]
        assert mount["mountPath"].endswith("/shm")


def test_either_container_may_be_charged_for_the_shared_memory() -> None:
    spec = engine_pod(engine={"resources": {"requests": {"memory": "4Gi"}, "limits": {"memory": "6Gi"}}})

    assert named(spec["containers"], "engine")["resources"] == {
        "requests": {"memory": "4Gi"},
        "limits": {"memory": "8Gi"},
    }
    assert spec["initContainers"][0]["resources"]["limits"]["memory"] == "3277Mi"
    limited = engine_pod(engine={"resources": {"limits": {"memory": "6Gi"}}})
    assert named(limited["containers"], "engine")["resources"] == {
        "requests": {"memory": "6Gi"},
        "limits": {"memory": "8Gi"},
    }, "else it would ask for the limit, with what the server beside it asks for as well"
    assert "limits" not in named(engine_pod()["containers"], "engine").get("resources", {})


def test_no_pod_of_its_own_is_left_for_the_server() -> None:
    names = {(obj["kind"], obj["metadata"]["name"]) for obj in planned(cache=PER_ENGINE)}

    assert not {name for name in names if name[1] == "chat-cache"}


def test_who_measures_reaches_the_server_in_the_engine_pod_and_nobody_else() -> None:
    rules = find(planned(cache=PER_ENGINE), "NetworkPolicy", Component.ENGINE)["spec"]["ingress"]
    peers = {rule["ports"][0]["port"]: rule["from"] for rule in rules}

    assert set(peers) == {8000, 8080}
    assert all("namespaceSelector" in peer for peer in peers[8080])


def beside(name: str, *, ready: bool = True) -> Json:
    server = {"name": "cache-server", "started": ready, "ready": ready, "restartCount": 0, "state": {"running": {}}}
    return pod(Component.ENGINE, name, initContainerStatuses=[server])


def status_of(*pods: Json, replicas: int = 2) -> Json:
    service = resource(engine={"replicas": replicas}, cache=PER_ENGINE)
    decision = decide(Observed(service), SETTINGS)
    children = tuple(live(obj) for obj in decision.plan.apply)
    observed = Observed(service, children, pods)
    return outcome(decision, observed, (), Measurement(), NOW).status


def test_without_an_l2_the_status_says_that_engines_share_nothing() -> None:
    cache = condition_of(status_of(beside("e0"), beside("e1"))["conditions"], "CacheReady")

    assert (cache["status"], cache["reason"]) == ("True", Reason.NOT_SHARED)
    assert cache["message"].startswith("2 of 2 LMCache servers ready")
    assert "spec.cache.l2" in cache["message"]


@pytest.mark.parametrize(
    ("cache", "told"),
    [
        ({"topology": "Shared"}, None),
        ({"topology": "PerEngine"}, "Engines with LMCache servers of their own don't find what others computed"),
        ({"topology": "NodeLocal"}, "Engines find what others on their node computed, and nothing from other nodes"),
        ({"topology": "NodeLocal", "l2": {"fileSystem": {"claimName": "kv"}}}, None),
    ],
)
def test_what_engines_do_not_find_of_each_other_is_told_by_topology(cache: dict[str, Any], told: str | None) -> None:
    said = apart(target(cache=cache).spec.cache)

    assert (said or "").startswith(told or "")
    assert bool(said) == bool(told)


def test_a_server_that_is_down_beside_its_engine_is_missed() -> None:
    cache = condition_of(status_of(beside("e0"), beside("e1", ready=False))["conditions"], "CacheReady")

    assert cache["status"] == "False"
    assert cache["message"].startswith("1 of 2 LMCache servers ready")


def test_servers_beside_engines_are_measured_each() -> None:
    service = target(cache=PER_ENGINE)
    measured = Measurement().with_cache(CacheSample(NOW, 0.5, 100, 3), "e0/cache-server")
    found = coverage(service, Observed(resource(), pods=(beside("e0"), beside("e1"))), measured, NOW)

    assert "e1/cache-server" in [failure.pod for failure in found.failures]
    assert "e0/cache-server" not in [failure.pod for failure in found.failures]


def test_use_is_told_over_all_servers() -> None:
    one = Measurement().with_cache(CacheSample(NOW - 9, 0.5, 100, 3), "a")
    both = one.with_cache(CacheSample(NOW, 0.1, 20, 1), "b")

    assert cache_status(target(cache=PER_ENGINE), 2, Coverage(2, ()), both, NOW)["usedPercent"] == 30


GPUS: dict[str, Any] = {
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "runtimeClassName": "nvidia",
}


def workload_of(made: tuple[Json, ...]) -> Json:
    """What makes LMCache servers in pods of their own."""
    kinds = ("StatefulSet", "DaemonSet")
    return next(obj for obj in made if obj["kind"] in kinds and "cache" in obj["metadata"]["name"])


def selectors_of(made: tuple[Json, ...]) -> list[Json]:
    """How Services, budgets and monitors choose LMCache servers."""
    kinds = ("Service", "PodDisruptionBudget", "PodMonitor")
    found = [obj["spec"]["selector"] for obj in made if obj["kind"] in kinds and "cache" in obj["metadata"]["name"]]
    return [selector.get("matchLabels", selector) for selector in found]


def pod_spec_of(made: tuple[Json, ...]) -> Json:
    """The pod that the engine Deployment makes."""
    spec: Json = find(made, "Deployment", Component.ENGINE)["spec"]["template"]["spec"]
    return spec


def node_local(**cache: Any) -> tuple[Json, ...]:
    return planned(engine={"template": {"spec": GPUS}}, cache={"topology": "NodeLocal"} | cache)


def test_a_server_stands_on_each_node_that_engines_may_be_on() -> None:
    pods = find(node_local(), "DaemonSet", Component.CACHE_SERVER)["spec"]["template"]["spec"]

    assert {name: pods[name] for name in GPUS} == GPUS
    other = node_local(template={"spec": {"nodeSelector": {"disk": "fast"}}})
    assert find(other, "DaemonSet", Component.CACHE_SERVER)["spec"]["template"]["spec"]["nodeSelector"] == {
        "disk": "fast"
    }


def test_engines_reach_the_server_of_their_own_node_only() -> None:
    made = node_local()
    service = find(made, "Service", Component.CACHE_SERVER)["spec"]
    engine = find(made, "Deployment", Component.ENGINE)["spec"]["template"]["spec"]

    assert service["internalTrafficPolicy"] == "Local"
    assert "clusterIP" not in service, "a headless name would lead to every node"
    assert connector(engine)["lmcache.mp.host"] == "tcp://chat-node-cache"


def test_servers_on_nodes_and_the_one_for_all_live_side_by_side_until_the_last_engine_has_moved() -> None:
    """A Service can't become headless, nor cease to be; and servers of nodes answer only engines that reach GPUs."""
    shared, on_nodes = planned(), node_local()
    engine = pod(Component.ENGINE) | {"spec": pod_spec_of(shared)}
    observed = Observed(resource(cache={"topology": "NodeLocal"}), children=tuple(map(live, shared)), pods=(engine,))
    names = {child["metadata"]["name"] for child in shared if child["kind"] in ("Service", "StatefulSet")}
    assert "chat-cache" in names
    assert not names & {child["metadata"]["name"] for child in on_nodes if child["kind"] == "DaemonSet"}
    for made, others in ((shared, on_nodes), (on_nodes, shared)):
        labels = workload_of(others)["spec"]["template"]["metadata"]["labels"]
        assert selectors_of(made)
        assert not [one for one in selectors_of(made) if one.items() <= labels.items()]
    assert not [child for child in decide(observed, SETTINGS).plan.prune if child["metadata"]["name"] == "chat-cache"]
    moved = replace(observed, pods=(engine | {"spec": pod_spec_of(on_nodes)},))
    assert {"StatefulSet", "Service"} <= {
        child["kind"] for child in decide(moved, SETTINGS).plan.prune if child["metadata"]["name"] == "chat-cache"
    }


def test_network_policies_fit_pods_of_the_old_topology_too() -> None:
    """Else the engines that are still to be replaced would lose their L2, and nobody could read their metrics."""
    valkey: dict[str, Any] = {"l2": {"valkey": {"managed": {}}}}
    both = [planned(cache=valkey), planned(cache=valkey | {"topology": "PerEngine"})]

    for component in (Component.ENGINE, Component.VALKEY):
        one, other = (find(made, "NetworkPolicy", component)["spec"]["ingress"] for made in both)
        assert one == other


def test_both_sides_agree_on_how_the_server_reaches_into_gpus() -> None:
    made = node_local()
    args = find(made, "DaemonSet", Component.CACHE_SERVER)["spec"]["template"]["spec"]["containers"][0]["args"]
    engine = find(made, "Deployment", Component.ENGINE)["spec"]["template"]["spec"]

    assert args[args.index("--supported-transfer-mode") + 1] == "lmcache_driven"
    assert "--isolated-ipc" in args
    assert connector(engine)["lmcache.mp.mp_transfer_mode"] == "lmcache_driven"
    assert connector(engine)["lmcache.mp.isolated_ipc"] is True


def test_servers_of_nodes_are_ready_when_every_node_has_one() -> None:
    daemons: Json = find(node_local(), "DaemonSet", Component.CACHE_SERVER)
    status = {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberReady": 2}
    there = daemons | {"metadata": daemons["metadata"] | {"generation": 1}, "status": status}

    assert rollout(there, None) == Rollout(3, 2, settled=True)
    assert not rollout(there | {"status": status | {"updatedNumberScheduled": 1}}, None).settled


def test_the_router_counts_on_no_shared_tier_where_there_is_none() -> None:
    def args(**cache: Any) -> list[str]:
        made: Json = find(planned(cache=cache), "Deployment", Component.ROUTER)["spec"]["template"]["spec"]
        return list(made["containers"][0]["args"])

    assert "--no-shared-tier" not in args()
    assert "--no-shared-tier" in args(topology="PerEngine")
    assert "--no-shared-tier" not in args(topology="PerEngine", l2={"valkey": {"managed": {}}})
