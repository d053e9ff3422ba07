"""The engine that serves a prompt with the least work: cached, reloaded from the shared tier, or computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp

from llmcache_runtime.policy.fleet import Engine, Fleet
from llmcache_runtime.policy.hashing import CHUNK_BYTES, digest
from llmcache_runtime.policy.index import PrefixIndex
from llmcache_runtime.policy.interface import Pick, Reason, RequestKey, TierTokens

CHUNK_TOKENS = CHUNK_BYTES // 4
"""Tokens in a chunk, at four bytes a token."""

SHARED_CHUNKS = 256 // CHUNK_TOKENS
"""Chunks in one chunk of LMCache (256 tokens by default); it shares whole ones only."""

MAX_ENGINE_CHUNKS = 65536
"""No engine is remembered to hold more: four million tokens, about 6 MB."""


ROOM_SECONDS = 5.0
"""How long a prompt counts in an engine's share of traffic: about as long as until the next turn of a conversation."""


@dataclass(slots=True)
class Traffic:
    """Tokens of prompts that an engine was sent lately: an exponentially fading sum."""

    tokens: float = 0.0
    at: float = 0.0

    def lately(self, now: float) -> float:
        """Give the sum as it has faded."""
        return self.tokens * exp((self.at - now) / ROOM_SECONDS)

    def add(self, tokens: int, now: float) -> None:
        """Count a prompt."""
        self.tokens, self.at = self.lately(now) + tokens, now


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost, in tokens of prefill.

    reload_ratio: a token that is reloaded from the shared tier (1 = as dear as computing it; no shared tier = 1).
    request: a running request, which slows the prefills beside it.
    shared: whether engines find what others computed at all.
    home: the part of an unknown prompt that its home engine is trusted to hold: another replica may have sent it there.
    room: the part of what a new token displaces, on a full engine that is sent as much as the others, that would have
    been used again.
    """

    reload_ratio: float = 0.35
    request: float = 64.0
    shared: bool = True
    home: float = 0.6
    room: float = 0.5


class PrefixAware(Fleet):
    """Least cost: this prompt's priced tokens + what they displace + priced tokens queued + each running request.

    engine_chunks bounds the memory for each engine (32,768 chunks are two million tokens, about 3 MB); shared_chunks
    bounds that for the shared tier, in LMCache's chunks.
    """

    def __init__(self, prices: Prices | None = None, *, engine_chunks: int = 16384, shared_chunks: int = 32768) -> None:
        super().__init__()
        self.prices = prices or Prices()
        self._engine_chunks = engine_chunks
        self._held: dict[str, PrefixIndex] = {}
        self._capacities: dict[str, int] = {}
        self._traffic: dict[str, Traffic] = {}
        self._shared = PrefixIndex(shared_chunks)

    def set_reload_ratio(self, ratio: float) -> None:
        """Tell what a reload was measured to cost against computing; 0 = free, 1 = no gain."""
        self.prices = replace(self.prices, reload_ratio=min(max(ratio, 0.0), 1.0))

    def set_capacity(self, engine: str, tokens: int) -> None:
        """Tell how many tokens an engine's own cache holds."""
        if any(known.name == engine for known in self.engines):
            self._capacities[engine] = max(1, min(tokens // CHUNK_TOKENS, MAX_ENGINE_CHUNKS))
            self._index(engine).resize(self._capacities[engine])

    def _choose(self, key: RequestKey, candidates: Sequence[Engine], now: float) -> Pick:
        prices, tokens, queries = self.prices, key.tokens, key.chunks
        shared = (
            self._shared.matched(queries[SHARED_CHUNKS - 1 :: SHARED_CHUNKS]) * SHARED_CHUNKS if prices.shared else 0
        )
        held = [self._index(e.name).matched(queries) for e in candidates]
        home = max(candidates, key=lambda e: digest(e.token, key.home)).name
        best = (float("inf"), True, "")
        for engine, chunks, room in zip(candidates, held, self._room(candidates, now), strict=True):
            reload = max(0, shared - chunks) * CHUNK_TOKENS
            compute = max(0, tokens - chunks * CHUNK_TOKENS - reload)
            work = compute + prices.reload_ratio * reload
            cost = work + room * (compute + reload) + engine.ahead(now) + prices.request * engine.running
            if engine.name == home:
                cost -= prices.home * compute
            rank = (cost, engine.name != home, engine.name)
            if rank < best:
                best, chosen, chosen_work = rank, chunks, work
                tiers = chunks * CHUNK_TOKENS, reload, compute
        reason = self._reason(best[2] == home, chosen, max(held), shared)
        return Pick(best[2], reason, TierTokens(*tiers), chosen_work, key)

    def _room(self, candidates: Sequence[Engine], now: float) -> Sequence[float]:
        """Price what a new token displaces: it is reloaded or computed again, the sooner the more is sent there."""
        lately = [self._traffic[e.name].lately(now) if e.name in self._traffic else 0.0 for e in candidates]
        scale = self.prices.room * self.prices.reload_ratio * len(lately) / (sum(lately) or 1.0)
        return [t * scale if self._index(e.name).full else 0.0 for e, t in zip(candidates, lately, strict=True)]

    @staticmethod
    def _reason(home: bool, held: int, most: int, shared: int) -> Reason:  # noqa: FBT001
        if held < most:
            return Reason.LOAD
        if held:
            return Reason.PREFIX
        if shared:
            return Reason.SHARED
        return Reason.HOME if home else Reason.LOAD

    def _started(self, pick: Pick, now: float) -> None:
        self._traffic.setdefault(pick.engine, Traffic()).add(pick.key.tokens, now)
        # At the start, not at the first token: a second request with this prefix should follow the first one at once.
        self._index(pick.engine).touch(pick.key.chunks)

    def _prefilled(self, pick: Pick) -> None:
        # LMCache stores a prompt only once it has been computed.
        self._shared.touch(pick.key.chunks[SHARED_CHUNKS - 1 :: SHARED_CHUNKS])

    def _forget(self, engine: str) -> None:
        self._held.pop(engine, None)
        self._capacities.pop(engine, None)
        self._traffic.pop(engine, None)

    def _index(self, engine: str) -> PrefixIndex:
        index = self._held.get(engine)
        if index is None:
            index = self._held[engine] = PrefixIndex(self._capacities.get(engine, self._engine_chunks))
        return index
