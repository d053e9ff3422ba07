"""Other routers' policies, as small models of their published algorithms, so that a simulated fleet can compare them.

They are written from the sources that each docstring names, run over the same load accounting as our own policies
(`Fleet`), and see the prompt as chained hashes: of 64 characters where the original looks at each of them, of 128
characters or of 16 tokens where it does so, too. None of this is product code.
"""

import random
from collections.abc import Sequence
from itertools import pairwise

from msgspec.structs import replace

from llmcache_runtime.policy import Fleet, Pick, Reason, RequestKey, Ticket, TierTokens
from llmcache_runtime.policy.fleet import Engine
from llmcache_runtime.policy.hashing import digest, preference

TOKEN_BYTES = 4

BLOCK_TOKENS = 16
"""vLLM's block, in which KV events speak."""


class Neighbour(Fleet):
    """A policy that says where, and nothing about tiers."""

    def _choose(self, key: RequestKey, candidates: Sequence[Engine], now: float) -> Pick:
        del now
        return Pick(self._engine(key, candidates), Reason.LOAD, TierTokens(0, 0, key.tokens), key.tokens, key)

    def _engine(self, key: RequestKey, candidates: Sequence[Engine]) -> str:
        raise NotImplementedError


class Informed(Neighbour):
    """A policy that KV events tell what each engine holds; here it knows at once."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[str, int] = {}

    def observe(self, held: dict[str, int]) -> None:
        """Tell, before a pick, how many tokens of the prompt each engine holds."""
        self._held = held

    def _choose(self, key: RequestKey, candidates: Sequence[Engine], now: float) -> Pick:
        pick = super()._choose(key, candidates, now)
        return replace(pick, cost=key.tokens - self._held[pick.engine])


def least_loaded(candidates: Sequence[Engine]) -> str:
    """Give the first engine with the fewest requests in flight, as Rust's `min_by_key` does."""
    return min(candidates, key=lambda engine: engine.running).name


class HashRing(Neighbour):
    """Consistent hashing of the session header on a ring.

    vllm-router `consistent_hash` (vllm-project/router, src/policies/consistent_hash.rs: 160 points an engine) and
    production-stack `session` (src/vllm_router/routers/routing_logic.py, SessionRouter: uhashring, which places 160
    points too). The hash function is another one here; that changes which session goes where, not how many.
    """

    points = 160

    def _engine(self, key: RequestKey, candidates: Sequence[Engine]) -> str:
        ring = sorted((digest(f"{e.name}:{i}".encode()), e.name) for e in candidates for i in range(self.points))
        place = digest(key.session or b"")
        return next((name for (low, _), (high, name) in pairwise([(0, ""), *ring]) if low < place <= high), ring[0][1])


class StickyLeastLoaded(Neighbour):
    """A new session goes to the engine with the fewest sessions and stays there.

    vllm-router `sticky_least_loaded` (vllm-project/router, src/policies/sticky_least_loaded.rs): ties are broken by
    rendezvous hashing, sessions end after two hours, which is longer than any run here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[bytes, str] = {}

    def _engine(self, key: RequestKey, candidates: Sequence[Engine]) -> str:
        session = key.session or b""
        if session not in self._sessions:
            owners = list(self._sessions.values())
            fewest = min(owners.count(e.name) for e in candidates)
            tied = [e.name for e in candidates if owners.count(e.name) == fewest]
            self._sessions[session] = preference(digest(session), tied)[0]
        return self._sessions[session]


class CacheAware(Neighbour):
    """The engine that was last sent the longest prefix, unless the match is short or the load is out of balance.

    vllm-router `cache_aware` (vllm-project/router, src/policies/cache_aware.rs and src/tree.rs) and smg `cache_aware`
    (lightseekorg/smg, model_gateway/src/policies/cache_aware.rs), which share the algorithm and, on the command line,
    the defaults. Its tree keeps 32 MiB of text for an engine, which no run here fills.
    """

    block_tokens = 16

    def __init__(self, threshold: float = 0.3, absolute: int = 64, relative: float = 1.5) -> None:
        super().__init__()
        self._threshold, self._absolute, self._relative = threshold, absolute, relative
        self._last: dict[int, str] = {}

    def _engine(self, key: RequestKey, candidates: Sequence[Engine]) -> str:
        loads = [e.running for e in candidates]
        low, high = min(loads), max(loads)
        if high - low > self._absolute and high > low * self._relative:
            return least_loaded(candidates)
        matched = next((i for i, item in enumerate(key.chunks) if item not in self._last), len(key.chunks))
        if matched and matched * self.block_tokens > self._threshold * key.tokens:
            return self._last[key.chunks[matched - 1]]
        return least_loaded(candidates)

    def _started(self, pick: Pick, now: float) -> None:
        del now
        self._last.update(dict.fromkeys(pick.key.chunks, pick.engine))


class PrefixTrie(Neighbour):
    """Any engine that was ever sent the longest known prefix; nothing is forgotten and load is not looked at.

    production-stack `prefixaware` (src/vllm_router/routers/routing_logic.py, PrefixAwareRouter, and
    src/vllm_router/prefix/hashtrie.py). `minimum`: `--prefix-min-match-length` in characters, below which the engine
    with the fewest requests in flight is taken; its default of 0 lets one shared system prompt hold a fleet together.
    """

    block_tokens = 32

    def __init__(self, minimum: int = 0) -> None:
        super().__init__()
        self._minimum = minimum
        self._sent: dict[int, set[str]] = {}
        self._random = random.Random(0)  # noqa: S311 (the original picks at random, too)

    def _engine(self, key: RequestKey, candidates: Sequence[Engine]) -> str:
        matched = next((i for i, item in enumerate(key.chunks) if item not in self._sent), len(key.chunks))
        if matched * self.block_tokens * TOKEN_BYTES < self._minimum:
            return least_loaded(candidates)
        names = {e.name for e in candidates}
        return self._random.choice(sorted(self._sent[key.chunks[matched - 1]] & names if matched else names))

    def _started(self, pick: Pick, now: float) -> None:
        del now
        for item in pick.key.chunks:
            self._sent.setdefault(item, set()).add(pick.engine)


class KvAware(Informed):
    """The engine that holds the longest prefix according to its KV events; the least loaded one if none holds any.

    vllm-router `kv_aware` (vllm-project/router, src/policies/kv_aware.rs and src/kv_index/scorer.rs), whose
    speculative entries are modelled as events that come at once. The last of equals wins, as in Rust's `max_by_key`.
    """

    def _engine(self, key: RequestKey, candidates: Sequence[Engine]) -> str:
        del key
        best = max(reversed(candidates), key=lambda e: self._held[e.name])
        return best.name if self._held[best.name] else least_loaded(candidates)


class KvCost(Informed):
    """Least blocks to prefill there, queued ones included, plus blocks that decode there.

    Dynamo's KV router (ai-dynamo/dynamo, docs/router/README.md and lib/llm/src/kv_router/scheduler.rs), with its
    default weight of 1 and temperature of 0. vllm-router 0.1.17 describes its `kv_aware` flags in the same words.
    """

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[str, float] = {}

    def _engine(self, key: RequestKey, candidates: Sequence[Engine]) -> str:
        def cost(engine: Engine) -> float:
            prefill = engine.queued + key.tokens - self._held[engine.name]
            return (prefill + self._blocks.get(engine.name, 0.0)) / BLOCK_TOKENS

        return min(candidates, key=cost).name

    def _started(self, pick: Pick, now: float) -> None:
        del now
        self._blocks[pick.engine] = self._blocks.get(pick.engine, 0.0) + pick.key.tokens

    def on_end(self, ticket: Ticket, now: float) -> None:
        super().on_end(ticket, now)
        self._blocks[ticket.pick.engine] -= ticket.pick.key.tokens
