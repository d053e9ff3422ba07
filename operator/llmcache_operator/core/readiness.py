"""Which pods of a service answer, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.moment import seconds
from llmcache_operator.core.target import COMPONENT_LABEL

if TYPE_CHECKING:
    from llmcache_operator.core.target import Component
    from llmcache_operator.core.values import Json, Observed


def ready_pods(observed: Observed, *components: Component) -> list[tuple[Json, float]]:
    """Return the pods of components that answer and stay, by name, with the time since when."""
    return [(pod, since) for pod, answers, since in _told(observed, components) if answers]


def ready_pods_at(observed: Observed, component: Component, at: float) -> list[tuple[Json, float]]:
    """Return the pods of a component that stay and answered at a time, as far as their conditions tell.

    With the time of their latest change, which is since when if they answer now.
    """
    return [(pod, since) for pod, answers, since in _told(observed, (component,)) if answers == (since <= at)]


def _told(observed: Observed, components: tuple[Component, ...]) -> list[tuple[Json, bool, float]]:
    """Return the pods that are not being deleted, whether they are ready, and since when."""
    wanted = {component.value for component in components}
    return [
        (pod, condition["status"] == "True", seconds(condition["lastTransitionTime"]))
        for pod in sorted(observed.pods, key=lambda pod: str(pod["metadata"]["name"]))
        if pod["metadata"]["labels"].get(COMPONENT_LABEL) in wanted and "deletionTimestamp" not in pod["metadata"]
        for condition in pod.get("status", {}).get("conditions", [])
        if condition["type"] == "Ready"
    ]
