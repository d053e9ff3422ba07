"""Self-tests of services, in the background: a reconcile starts one and goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.conclusion import conclusion
from llmcache_operator.core.values import SelfTestResult
from llmcache_operator.edge.fetching import client
from llmcache_operator.edge.probing import Prober

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from llmcache_operator.core.values import SelfTest, ServiceKey
    from llmcache_operator.core.window import OwnRequest
    from llmcache_operator.edge.measuring import MeasurementBook
    from llmcache_operator.edge.metrics import Metrics
    from llmcache_operator.edge.workqueue import WorkQueue

AT_ONCE = 4
"""Services that are tested at the same time."""

log = logging.getLogger(__name__)


class SelfTester:
    """Carries out self-tests; fulfils `reconcile.SelfTests`. `clock` gives Unix time in seconds."""

    def __init__(
        self, book: MeasurementBook, queue: WorkQueue, metrics: Metrics, clock: Callable[[], float] = time.time
    ) -> None:
        self._book = book
        self._queue = queue
        self._metrics = metrics
        self._clock = clock
        self._due: asyncio.Queue[SelfTest] = asyncio.Queue()
        self._under_way: set[ServiceKey] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def start(self, test: SelfTest) -> None:
        """See `SelfTests`."""
        if test.key not in self._under_way:
            self._under_way.add(test.key)
            self._due.put_nowait(test)

    async def run(self) -> None:
        """Carry out what is due, for ever."""
        async with client() as http, asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._carry_out(http, await self._due.get()))

    async def _carry_out(self, http: httpx.AsyncClient, test: SelfTest) -> None:
        async with self._slots:
            result = await self._result(http, test)
        self._metrics.self_tests.labels(result.reason.value).inc()
        self._book.update(test.key, test.uid, lambda measurement: measurement.with_self_test(result))
        self._under_way.discard(test.key)
        self._queue.add(test.key)

    async def _result(self, http: httpx.AsyncClient, test: SelfTest) -> SelfTestResult:
        def note(request: OwnRequest) -> None:
            self._book.update(test.key, test.uid, lambda measurement: measurement.with_own(request))

        about = {"about": {**test.key._asdict(), "uid": test.uid}}
        try:
            findings = await Prober(http, test, note, self._clock).findings()
        except Exception:
            log.exception("a bug of the operator", extra=about)
            text = "The operator has a bug: its log holds the traceback"
            return SelfTestResult(self._clock(), test.fleet, Reason.PROBE_FAILED, text, test.failures + 1)
        result = conclusion(test, findings, self._clock())
        log.info("self-test: %s: %s", result.reason, result.message, extra=about)
        return result
