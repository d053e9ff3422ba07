"""Who may start now: picks an engine with room, lets requests queue for one, and says no in time."""

import asyncio
import time
from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from llmcache_runtime.policy import Pick, Policy, RequestKey
from llmcache_runtime.router.engines import Engines
from llmcache_runtime.router.errors import RouterError
from llmcache_runtime.router.metrics import Metrics


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """Bounds on work; 0 running = no bound, and then nothing ever queues here."""

    running: int = 0  # requests on one engine
    queue: int = 1000  # requests that wait for an engine with room
    timeout: float = 30.0  # seconds in the queue


class Admission:
    """Picks among engines that are available and below their bound; first come, first served."""

    def __init__(self, policy: Policy, engines: Engines, metrics: Metrics, settings: AdmissionSettings) -> None:
        self._policy = policy
        self._engines = engines
        self._metrics = metrics
        self._settings = settings
        self._queue: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()

    async def pick(self, key: RequestKey, tried: AbstractSet[str]) -> Pick:
        """Pick an engine that was not tried yet, waiting for room if it must. Raises RouterError."""
        if not self._queue:
            pick = self._pick(key, tried)
            if pick is not None:
                return pick
        deadline = self._loop.time() + self._settings.timeout
        while True:
            self._check(tried)
            await self._wait(deadline)
            pick = self._pick(key, tried)
            if pick is not None:
                return pick

    def released(self) -> None:
        """Wake the first in the queue: an engine may have room."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    def _pick(self, key: RequestKey, tried: AbstractSet[str]) -> Pick | None:
        now = time.monotonic()
        taken = tried | self._full() if tried or self._settings.running else frozenset[str]()
        for shunned in self._engines.shunned:
            pick = self._policy.pick(key, now, taken | shunned)
            if pick is not None:
                return pick
        return None

    def _full(self) -> AbstractSet[str]:
        bound = self._settings.running
        return {e.id for e in self._engines if len(e.active) >= bound} if bound else frozenset()

    def _check(self, tried: AbstractSet[str]) -> None:
        """Raise unless waiting for room makes sense."""
        if not self._full() - tried - self._engines.unreachable:
            raise RouterError(503, "no_engine", "no engine is available", retry_after=1)
        if len(self._queue) >= self._settings.queue:
            raise RouterError(503, "saturated", "all engines are busy and the queue is full", retry_after=1)

    async def _wait(self, deadline: float) -> None:
        waiter = self._loop.create_future()
        self._queue.append(waiter)
        self._metrics.queue.set(len(self._queue))
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except TimeoutError:
            message = f"all engines were busy for {self._settings.timeout:g} s"
            raise RouterError(503, "saturated", message, retry_after=1) from None
        finally:
            if waiter in self._queue:
                self._queue.remove(waiter)
            self._metrics.queue.set(len(self._queue))
