"""A work queue in the manner of client-go's: level-triggered, and never two workers on one key.

A key that is added while it waits is worked on once; one that is added while it is worked on is worked on
once more afterwards. Failures come back with exponential back-off and jitter. Sources:
k8s.io/client-go/util/workqueue; kubernetes/community contributors/devel/sig-api-machinery/controllers.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from llmcache_operator.edge.errors import RetryLaterError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmcache_operator.core.values import ServiceKey

log = logging.getLogger(__name__)


class WorkQueue:
    """Services that want work. Times are in seconds of the event loop's clock.

    `least` and `most` bound the back-off; `jitter` gives numbers from 0.0 to below 1.0; `waited` is told how long each
    key waited for a worker.
    """

    def __init__(
        self,
        *,
        least: float = 1.0,
        most: float = 300.0,
        jitter: Callable[[], float] = random.random,
        waited: Callable[[float], object] = lambda _: None,
    ) -> None:
        self._least = least
        self._most = most
        self._jitter = jitter
        self._waited = waited
        self._ready: asyncio.Queue[ServiceKey] = asyncio.Queue()
        self._waiting: dict[ServiceKey, float] = {}
        self._running: set[ServiceKey] = set()
        self._again: set[ServiceKey] = set()
        self._timers: dict[ServiceKey, asyncio.TimerHandle] = {}
        self._failures: dict[ServiceKey, int] = {}

    def __len__(self) -> int:
        """How many keys wait for a worker."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Nothing waits for a worker and no worker works; timers may still tick."""
        return not self._waiting and not self._running

    def add(self, key: ServiceKey) -> None:
        """Work on the key as soon as a worker is free."""
        self._stop_timer(key)
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().time()
            self._ready.put_nowait(key)

    def add_after(self, key: ServiceKey, delay: float) -> None:
        """Work on the key after a delay, or sooner if it is already due sooner."""
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        timer = self._timers.get(key)
        if timer is None or timer.when() > due:
            self._stop_timer(key)
            self._timers[key] = loop.call_at(due, self.add, key)

    async def work(self, handle: Callable[[ServiceKey], Awaitable[float | None]]) -> None:
        """Be one worker, until cancelled.

        `handle` returns after how many seconds it wants the key again, or None to be done with it. What it
        raises makes the key come back later: a `RetryLaterError` is part of life and one line in the log,
        anything else is a bug and logged with its traceback.
        """
        while True:
            key = await self._ready.get()
            self._waited(asyncio.get_running_loop().time() - self._waiting.pop(key))
            self._running.add(key)
            try:
                self._settle(key, await handle(key))
            except RetryLaterError as error:
                delay = self._back_off(key, error.after)
                log.warning("will try again in %.1f s: %s", delay, error, extra={"about": key._asdict()})
            except Exception:
                delay = self._back_off(key, 0.0)
                log.exception("a bug of the operator; will try again in %.1f s", delay, extra={"about": key._asdict()})
            finally:
                self._running.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def _settle(self, key: ServiceKey, again_in: float | None) -> None:
        self._failures.pop(key, None)
        if again_in is not None:
            self.add_after(key, again_in)

    def _back_off(self, key: ServiceKey, at_least: float) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        longest = min(self._most, self._least * 2.0 ** min(failures, 32))
        delay = max(at_least, longest * (1 - self._jitter() / 2))
        self.add_after(key, delay)
        return delay

    def _stop_timer(self, key: ServiceKey) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
