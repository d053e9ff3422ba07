"""Sessions stick to an engine by consistent hashing with bounded loads.

Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (arXiv 1608.01350), on rendezvous hashing in
place of a ring.
"""

from collections.abc import Sequence
from math import ceil

from llmcache_runtime.policy.fleet import Engine, Fleet
from llmcache_runtime.policy.hashing import digest, preference
from llmcache_runtime.policy.interface import Pick, Reason, RequestKey, TierTokens


class SessionAffinity(Fleet):
    """The session's favourite engine whose load stays within `bound` times the mean.

    Without a session header the conversation itself (its text up to the first user message) is the session, so requests
    without one never fall on a single engine together.
    """

    def __init__(self, bound: float = 1.25) -> None:
        super().__init__()
        self._bound = bound

    def _choose(self, key: RequestKey, candidates: Sequence[Engine], now: float) -> Pick:
        del now
        seed = key.home if key.session is None else digest(key.session)
        limit = ceil(self._bound * (sum(e.running for e in candidates) + 1) / len(candidates))
        running = {e.name: e.running for e in candidates}
        order = preference(seed, running)
        name = next(n for n in order if running[n] < limit)
        reason = Reason.SESSION if name == order[0] else Reason.SESSION_OVERFLOW
        return Pick(name, reason, TierTokens(0, 0, key.tokens), key.tokens, key)
