"""Which engines find what others computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.api.cache import Topology

if TYPE_CHECKING:
    from llmcache_operator.api.cache import CacheSpec


def shares(cache: CacheSpec) -> bool:
    """Whether every engine finds what any other one computed."""
    return cache.topology is Topology.SHARED or cache.l2 is not None


def layout(cache: CacheSpec) -> str:
    """Return where cached KV is, in words: `Shared`, or `PerEngine, L2: valkey, s3`."""
    tiers = [] if cache.l2 is None else [name for name in ("valkey", "file_system", "s3") if getattr(cache.l2, name)]
    return cache.topology.value + (f", L2: {', '.join(tiers).replace('file_system', 'fileSystem')}" if tiers else "")
