"""Where the LMCache servers stand, behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from llmcache_operator.api.cache import Topology
from llmcache_operator.core.children.node_local import NodeLocal
from llmcache_operator.core.children.per_engine import PerEngine
from llmcache_operator.core.children.shared import Shared

if TYPE_CHECKING:
    from llmcache_operator.core.children.parts import EngineParts
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import Json


class CacheTopology(Protocol):
    """How engines and LMCache servers are placed."""

    def children(self, target: Target) -> tuple[Json, ...]:
        """Return the objects that servers of their own pods need."""

    def engine_parts(self, target: Target) -> EngineParts:
        """Return what the engine pods need."""


_TOPOLOGIES: dict[Topology, CacheTopology] = {
    Topology.SHARED: Shared(),
    Topology.PER_ENGINE: PerEngine(),
    Topology.NODE_LOCAL: NodeLocal(),
}


def topology_of(target: Target) -> CacheTopology:
    """Return the topology that a service asks for."""
    return _TOPOLOGIES[target.spec.cache.topology]
