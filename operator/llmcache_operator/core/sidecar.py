"""What stands beside engines and LMCache servers, in their pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.target import COMPONENT_LABEL, Component

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmcache_operator.core.values import Json

CONTAINER = "cache-server"
GUARD = "l2-guard"
SWEEPER = "l2-sweeper"


def server_beside(pod: Json) -> Json:
    """Return the status of the LMCache server in an engine's pod, or an empty one where there is none."""
    return sidecar(pod, CONTAINER)


def sidecar(pod: Json, name: str) -> Json:
    """Return the status of a native sidecar of a pod, or an empty one where there is none."""
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or ()
    return next((status for status in statuses if status.get("name") == name), {})


def cache_server_name(pod: Json) -> str:
    """Return what the LMCache server of a pod is called in measurements and messages; an empty text without one."""
    name, labels = str(pod["metadata"]["name"]), pod["metadata"].get("labels") or {}
    if labels.get(COMPONENT_LABEL) == Component.CACHE_SERVER.value:
        return name
    return f"{name}/{CONTAINER}" if server_beside(pod) else ""


def servers_ready(pods: Iterable[Json]) -> int:
    """Count the LMCache servers beside engines that answer: without a readiness probe, those that have started."""
    staying = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
    return sum(bool(server_beside(pod).get("ready")) for pod in staying)
