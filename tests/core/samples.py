"""Resources, children and pods as a cluster shows them, for the tests of the core."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from llmcache_operator.api.spec import ServiceSpec
from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.target import Component, Target
from llmcache_operator.core.values import Json, Observed, ServiceKey, Settings

NOW = 1_800_000_000.0
UID = "5f0c6a52-0000-4000-8000-000000000001"
KEY = ServiceKey("team", "chat")
SETTINGS = Settings(engine_image="engine:1", cache_server_image="cache:1", router_image="router:1")
MODEL = {"uri": "pvc://models/tiny"}
KINDS = {Component.ENGINE: "Deployment", Component.CACHE_SERVER: "StatefulSet", Component.ROUTER: "Deployment"}


def stamp(seconds_ago: float = 0.0) -> str:
    """A Kubernetes timestamp."""
    return datetime.fromtimestamp(NOW - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def resource(*, generation: int = 1, status: Json | None = None, annotations: Json | None = None, **spec: Any) -> Json:
    """An LLMCacheService as the API server returns it."""
    metadata = {"name": KEY.name, "namespace": KEY.namespace, "uid": UID, "generation": generation}
    return {
        "apiVersion": "llmcache.dev/v1alpha1",
        "kind": "LLMCacheService",
        "metadata": metadata | ({"annotations": annotations} if annotations else {}),
        "spec": {"model": MODEL} | spec,
        "status": status or {"observedGeneration": -1},
    }


def target(settings: Settings = SETTINGS, **spec: Any) -> Target:
    """What to build children for."""
    return Target(KEY, UID, ServiceSpec.model_validate({"model": MODEL} | spec), settings)


PLAIN = target()
"""The target of a service with nothing but a model."""
ON_NODES = target(cache={"topology": "NodeLocal"})


def planned(settings: Settings = SETTINGS, **spec: Any) -> tuple[Json, ...]:
    """The children of a fresh service."""
    return decide(Observed(resource(**spec)), settings).plan.apply


def find(objects: tuple[Json, ...], kind: str, component: Component) -> Json:
    """One child by kind and component."""
    names = (PLAIN.name(component), ON_NODES.name(component))
    return next(obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] in names)


def main_container(objects: tuple[Json, ...], component: Component) -> Json:
    """The first container of a component's pods."""
    pods: Json = find(objects, KINDS[component], component)["spec"]["template"]
    return dict(pods["spec"]["containers"][0])


def live(obj: Json, *, ready: int | None = None, generation: int = 1, **status: Any) -> Json:
    """A child as the cluster holds it; a workload with all its pods, or with `ready` of them."""
    meta = obj["metadata"] | {"generation": generation, "uid": f"uid-{obj['metadata']['name']}"}
    meta["creationTimestamp"] = stamp(3600)
    if obj["kind"] not in ("Deployment", "StatefulSet"):
        return obj | {"metadata": meta}
    count = obj["spec"].get("replicas", 1)
    spec = obj["spec"] | {"replicas": count}
    counts = dict.fromkeys(("replicas", "updatedReplicas"), count)
    counts["readyReplicas"] = count if ready is None else ready
    return obj | {"metadata": meta, "spec": spec, "status": {"observedGeneration": generation} | counts | status}


def cluster(**spec: Any) -> dict[Component, Json]:
    """The three workloads of a service, all ready."""
    children = planned(**spec)
    return {component: live(find(children, kind, component)) for component, kind in KINDS.items()}


def pod(component: Component, name: str | None = None, *, ready: bool = True, **status: Any) -> Json:
    """A pod that has run for an hour, or what `status` says of it instead."""
    name = name or f"{PLAIN.name(component)}-0"
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": stamp(3600)}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": dict(PLAIN.labels(component))},
        "spec": {},
        "status": {"phase": "Running", "conditions": [condition]} | status,
    }


def condition_of(conditions: list[Json], kind: str) -> Json:
    """One condition by type."""
    return next(condition for condition in conditions if condition["type"] == kind)
