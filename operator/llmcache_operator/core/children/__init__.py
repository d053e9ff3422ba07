"""What the cluster should hold for one LLMCacheService. One builder a part; each returns plain objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import (
    budget,
    engine,
    inference_pool,
    monitoring,
    network,
    router,
    router_access,
    valkey,
)
from llmcache_operator.core.children.topology import topology_of

if TYPE_CHECKING:
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import Json

__all__ = ["build", "secrets"]


def build(target: Target, live_engine: Json | None) -> tuple[Json, ...]:
    """Return every child, in the order in which to apply them: what others need comes first.

    `live_engine` is the engine Deployment as it is in the cluster, if there is one: see engine.replicas.
    """
    topology = topology_of(target)
    return (
        *router_access.build(target),
        *network.build(target),
        *valkey.build(target),
        *topology.children(target),
        *engine.build(target, topology.engine_parts(target), live_engine),
        *router.build(target),
        *inference_pool.build(target),
        *budget.build(target),
        *monitoring.build(target),
    )


def secrets(target: Target) -> tuple[Json, ...]:
    """Return the Secrets that have to be there, without their content."""
    return valkey.secret(target)
