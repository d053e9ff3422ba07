"""The engine with the fewest requests."""

from collections.abc import Sequence

from llmcache_runtime.policy.fleet import Engine, Fleet
from llmcache_runtime.policy.hashing import digest
from llmcache_runtime.policy.interface import Pick, Reason, RequestKey, TierTokens


class LeastLoaded(Fleet):
    """Fewest running requests, then least queued prefill, then rendezvous hashing of the prompt."""

    def _choose(self, key: RequestKey, candidates: Sequence[Engine], now: float) -> Pick:
        del now
        engine = min(candidates, key=lambda e: (e.running, e.queued, digest(e.token, key.home)))
        return Pick(engine.name, Reason.LEAST_LOADED, TierTokens(0, 0, key.tokens), key.tokens, key)
