"""Which engines find what others computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.api.cache import Topology

if TYPE_CHECKING:
    from llmcache_operator.api.cache import CacheSpec


def shares(cache: CacheSpec) -> bool:
    """Whether every engine finds what any other one computed."""
    return cache.topology is not Topology.PER_ENGINE
