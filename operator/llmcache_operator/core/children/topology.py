"""Where the LMCache server stands, behind one interface, so that other shapes can join."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from llmcache_operator.api.cache import Topology
from llmcache_operator.core.children.shared import Shared

if TYPE_CHECKING:
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import Json


class CacheTopology(Protocol):
    """How engines and LMCache servers are placed."""

    def children(self, target: Target) -> tuple[Json, ...]:
        """Return the objects that the servers need."""

    def address(self, target: Target) -> tuple[str, int]:
        """Return host and port at which an engine finds its server's MP port."""

    def connector(self, target: Target) -> Json:
        """Return `kv_connector_extra_config` of the engines' connector."""


_TOPOLOGIES: dict[Topology, CacheTopology] = {Topology.SHARED: Shared()}


def topology_of(target: Target) -> CacheTopology:
    """Return the topology that a service asks for."""
    return _TOPOLOGIES[target.spec.cache.topology]
