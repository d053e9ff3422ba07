"""Counters of engines, LMCache servers and routers: what they say, or what they grew by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class EngineCounts(NamedTuple):
    """What an engine's counters say, or grew by; names and units are those of `EngineSample`."""

    computed: float = 0
    engine_hits: float = 0
    server_hits: float = 0
    served: float = 0
    busy: float = 0
    ended: float = 0
    short: float = 0
    lookups: float = 0
    prompt_tokens: float = 0
    own_found: float = 0
    server_found: float = 0
    prefilled: float = 0
    prefilling: float = 0
    loaded: float = 0
    loading: float = 0

    @property
    def hits(self) -> float:
        """Prompt tokens that no engine had to compute."""
        return self.engine_hits + self.server_hits

    @property
    def total(self) -> float:
        """All prompt tokens."""
        return self.computed + self.hits

    @property
    def requests(self) -> float:
        """Requests that came in, by whichever counter saw them."""
        return max(self.served, self.ended, self.lookups)


class CacheCounts(NamedTuple):
    """What an LMCache server's counters say, or grew by; names and units are those of `CacheSample`."""

    evicted_chunks: float = 0
    written_chunks: float = 0
    lookups: float = 0
    unknown_lookups: float = 0
    asked: float = 0
    found: float = 0
    lost_events: float = 0
    no_room: float = 0


@dataclass(frozen=True, slots=True)
class L2Stores:
    """What one LMCache server did for the tiers behind it since it started.

    `submitted` and `stored` are chunks, over all tiers. By LMCache's name of a tier, like `fs`: `ended` are tasks of
    storing some chunks, failed ones included, and `wrote` those that wrote any. `given_up` are tiers no longer used.
    """

    submitted: int = 0
    stored: int = 0
    ended: Mapping[str, int] = field(default_factory=dict)
    wrote: Mapping[str, int] = field(default_factory=dict)
    given_up: frozenset[str] = frozenset()


NOTHING_STORED = L2Stores()
"""Of a server that has just started, or has no L2."""


class RouterCounts(NamedTuple):
    """What a router's counters say, or grew by; names and units are those of `RouterSample`."""

    picks: float = 0
    engine: float = 0
    shared: float = 0
    compute: float = 0


@dataclass(frozen=True, slots=True)
class RouterSample:
    """One scrape of one router: requests that it sent to an engine, and where it expected their tokens to come from."""

    pod: str
    pod_uid: str
    at: float
    picks: int
    engine: int = 0
    shared: int = 0
    compute: int = 0
    started_at: float | None = None

    @property
    def counts(self) -> RouterCounts:
        """All that only grows."""
        return RouterCounts(self.picks, self.engine, self.shared, self.compute)
