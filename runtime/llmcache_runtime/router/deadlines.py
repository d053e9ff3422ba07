"""How long an engine may take to begin its answer."""

import asyncio

from llmcache_runtime.router.exchange import Exchange
from llmcache_runtime.router.upstream import EngineError


class Deadlines:
    """The exchanges that run, with when each must have begun. A timer for each of them would cost more than the rest.

    They share one limit, in seconds.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._expiries: dict[Exchange, float] = {}
        self._loop = asyncio.get_running_loop()

    def add(self, exchange: Exchange) -> None:
        """Let an exchange's time begin."""
        self._expiries[exchange] = self._loop.time() + self._limit

    def discard(self, exchange: Exchange) -> None:
        """Forget an exchange."""
        self._expiries.pop(exchange, None)

    async def sweep(self, interval: float = 1.0) -> None:
        """Fail exchanges that have not begun in time, for ever."""
        while True:
            await asyncio.sleep(min(interval, self._limit))
            now = self._loop.time()
            for exchange in [e for e, expiry in self._expiries.items() if expiry < now and e.status == 0]:
                exchange.fail(EngineError(f"no response within {self._limit:g} s"))
