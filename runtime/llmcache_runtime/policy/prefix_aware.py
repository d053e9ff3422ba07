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

SHARED_TOKENS = 256
SHARED_CHUNKS = SHARED_TOKENS // CHUNK_TOKENS
"""Chunks in one chunk of LMCache (256 tokens by default); it shares whole ones only."""

MAX_ENGINE_CHUNKS = 32768
"""No engine is remembered to hold more: four million tokens."""

ROOM_SECONDS = 5.0
"""How long a prompt counts in an engine's share of traffic: about as long as until the next turn of a conversation."""


@dataclass(slots=True)
class Memory:
    """What an engine is thought to hold, and the tokens of prompts that it was sent lately: a fading sum."""

    prefixes: PrefixIndex
    tokens: float = 0.0
    at: float = 0.0

    def lately(self, now: float) -> float:
        """Give the sum as it has faded."""
        return self.tokens * exp((self.at - now) / ROOM_SECONDS)

    def add(self, key: RequestKey, now: float) -> None:
        """Take note of a prompt that was sent."""
        self.tokens, self.at = self.lately(now) + key.tokens, now
        self.prefixes.touch(key.chunks)


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

    engine_chunks bounds the memory for each engine until its size is known; shared_chunks bounds that for the shared
    tier, in LMCache's chunks. A chunk takes 50 bytes where prompts are long, 230 where each is a single one.
    """

    def __init__(self, prices: Prices | None = None, *, engine_chunks: int = 8192, shared_chunks: int = 32768) -> None:
        super().__init__()
        self.prices = prices or Prices()
        self._engine_chunks = engine_chunks
        self._memories: dict[str, Memory] = {}
        self._shared = PrefixIndex(shared_chunks)

    def set_reload_ratio(self, ratio: float) -> None:
        """Tell what a reload was measured to cost against computing; 0 = free, 1 = no gain."""
        self.prices = replace(self.prices, reload_ratio=min(max(ratio, 0.0), 1.0))

    def set_capacity(self, engine: str, tokens: int) -> None:
        """Tell how many tokens an engine's own cache holds."""
        if any(known.name == engine for known in self.engines):
            self._memory(engine).prefixes.resize(max(1, min(tokens // CHUNK_TOKENS, MAX_ENGINE_CHUNKS)))

    def _choose(self, key: RequestKey, candidates: Sequence[Engine], now: float) -> Pick:
        tokens, chunks = key.tokens, key.chunks
        shareable = chunks[SHARED_CHUNKS - 1 :: SHARED_CHUNKS]
        shared = self._shared.matched(shareable) * SHARED_TOKENS if self.prices.shared else 0
        memories = [self._memories.get(e.name) or self._memory(e.name) for e in candidates]
        held = [memory.prefixes.matched(chunks) * CHUNK_TOKENS for memory in memories]
        homes = [digest(e.token, key.home) for e in candidates]
        home = homes.index(max(homes))
        prices, room = self.prices, self._room(memories, now)
        costs = [
            (tokens - cached) * (1 + price)
            - (shared - cached if shared > cached else 0) * (1 - prices.reload_ratio)
            + engine.ahead(now)
            + prices.request * engine.running
            for engine, cached, price in zip(candidates, held, room, strict=True)
        ]
        costs[home] -= prices.home * (tokens - max(held[home], shared))
        lowest = min(costs)
        chosen = home if costs[home] == lowest else costs.index(lowest)
        tiers = TierTokens(held[chosen], max(0, shared - held[chosen]), tokens - max(held[chosen], shared))
        reason = self._reason(chosen == home, tiers.engine, max(held), shared)
        work = tiers.compute + prices.reload_ratio * tiers.shared
        return Pick(candidates[chosen].name, reason, tiers, work, key)

    def _room(self, memories: Sequence[Memory], now: float) -> Sequence[float]:
        """Price what a new token displaces: it is reloaded or computed again, the sooner the more is sent there."""
        lately = [memory.lately(now) for memory in memories]
        scale = self.prices.room * self.prices.reload_ratio * len(lately) / (sum(lately) or 1.0)
        return [sent * scale if m.prefixes.full else 0.0 for m, sent in zip(memories, lately, strict=True)]

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
        # At the start, not at the first token: a second request with this prefix should follow the first one at once.
        self._memory(pick.engine).add(pick.key, now)

    def _prefilled(self, pick: Pick) -> None:
        # LMCache stores a prompt only once it has been computed.
        self._shared.touch(pick.key.chunks[SHARED_CHUNKS - 1 :: SHARED_CHUNKS])

    def _forget(self, engine: str) -> None:
        self._memories.pop(engine, None)

    def _memory(self, engine: str) -> Memory:
        memory = self._memories.get(engine)
        if memory is None:
            memory = self._memories[engine] = Memory(PrefixIndex(self._engine_chunks))
        return memory
