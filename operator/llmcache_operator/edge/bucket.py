"""A token bucket: at most `rate` calls a second in the long run, `burst` at once."""

from __future__ import annotations

import asyncio


class TokenBucket:
    """Callers wait in the order in which they came. The time is the event loop's, in seconds."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = 0.0
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Wait for one token."""
        async with self._turn:
            self._fill()
            if self._tokens < 1:
                await asyncio.sleep((1 - self._tokens) / self._rate)
                self._fill()
            self._tokens -= 1

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
