"""Each engine in turn: the baseline that others are measured against."""

from collections.abc import Sequence

from llmcache_runtime.policy.fleet import Engine, Fleet
from llmcache_runtime.policy.interface import Pick, Reason, RequestKey, TierTokens


class RoundRobin(Fleet):
    """Each engine in turn, in order of name. A request that is only picked and never started takes no turn."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def _choose(self, key: RequestKey, candidates: Sequence[Engine], now: float) -> Pick:
        del now
        names = sorted(e.name for e in candidates)
        name = next((n for n in names if n > self._last), names[0])
        return Pick(name, Reason.ROUND_ROBIN, TierTokens(0, 0, key.tokens), key.tokens, key)

    def _started(self, pick: Pick, now: float) -> None:
        del now
        self._last = pick.engine
