"""How many pods a node drain may take at once: one of each component, and never none, so that a drain can't hang."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmcache_operator.core.target import Component, Target
    from llmcache_operator.core.values import Json


def build(target: Target) -> tuple[Json, ...]:
    """Return one PodDisruptionBudget a component.

    Pods that are not ready may always be evicted: a broken one protects nothing.
    """
    return tuple(_budget(target, component) for component in target.components)


def _budget(target: Target, component: Component) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": target.metadata(component),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": target.own_selector(component)},
        },
    }
