"""Which engines find what others computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.api.cache import Topology

if TYPE_CHECKING:
    from llmcache_operator.api.cache import CacheSpec


_APART = {
    Topology.PER_ENGINE: "Engines with LMCache servers of their own don't find what others computed",
    Topology.NODE_LOCAL: "Engines find what others on their node computed, and nothing from other nodes",
}


def shares(cache: CacheSpec) -> bool:
    """Whether every engine finds what any other one computed."""
    return apart(cache) is None


def apart(cache: CacheSpec) -> str | None:
    """Return what engines don't find of what others computed, in words; None where they find all of it."""
    where = None if cache.l2 else _APART.get(cache.topology)
    what = "A server that goes takes its cache along. An L2 (spec.cache.l2) lets them share, and keeps the cache"
    return where and f"{where}. {what}"


def layout(cache: CacheSpec) -> str:
    """Return where cached KV is, in words: `Shared`, or `PerEngine, L2: valkey, s3`."""
    tiers = [] if cache.l2 is None else [name for name in ("valkey", "file_system", "s3") if getattr(cache.l2, name)]
    return cache.topology.value + (f", L2: {', '.join(tiers).replace('file_system', 'fileSystem')}" if tiers else "")
