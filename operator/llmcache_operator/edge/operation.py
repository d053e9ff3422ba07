"""What a leading process does, all at the same time: watch, reconcile, scrape, check the watches, renew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from llmcache_operator.core.children.monitoring import POD_MONITOR
from llmcache_operator.edge.errors import ApiError, RetryLaterError
from llmcache_operator.edge.events import Recorder
from llmcache_operator.edge.measuring import MeasurementBook
from llmcache_operator.edge.reconcile import Reconciler
from llmcache_operator.edge.scraping import Scraper
from llmcache_operator.edge.selftest import SelfTester
from llmcache_operator.edge.sentinel import Sentinel
from llmcache_operator.edge.watching import Watches, watched
from llmcache_operator.edge.workqueue import WorkQueue

if TYPE_CHECKING:
    from llmcache_operator.core.values import ServiceKey
    from llmcache_operator.edge.cluster import HttpCluster
    from llmcache_operator.edge.discovery import Discovery
    from llmcache_operator.edge.lease import Elector
    from llmcache_operator.edge.metrics import Metrics
    from llmcache_operator.edge.options import Options

ACCESS_PERIOD = 2.0
FIRST_SCRAPE = 5.0
"""Seconds that the first reconciles wait for the first scrapes."""

log = logging.getLogger(__name__)


class Operation:
    """The parts of the operator, put together."""

    def __init__(self, chosen: Options, cluster: HttpCluster, metrics: Metrics, discovery: Discovery) -> None:
        settings = replace(chosen.settings, optional_kinds=discovery.kinds)
        if settings.scraper_namespace is None and settings.pod_monitors and POD_MONITOR in discovery.kinds:
            log.warning("NetworkPolicies keep Prometheus from the pods of PodMonitors: set --scraper-namespace")
        self._options = chosen
        self._cluster = cluster
        self._metrics = metrics
        self._discovery = discovery
        self._kinds = watched(discovery.kinds)
        self._queue = WorkQueue(waited=metrics.queue_seconds.observe)
        self._watches = Watches(self._queue, self._kinds)
        self._book = MeasurementBook()
        self._scraper = Scraper(
            self._watches, self._book, self._queue, metrics,
            interval=settings.scrape_interval, window=settings.window,
        )  # fmt: skip
        self._sentinel = Sentinel(cluster, self._watches, self._kinds, chosen.namespaces)
        self._self_tester = SelfTester(self._book, self._queue, metrics)
        self._reconciler = Reconciler(
            self._watches, cluster, settings, self._book, Recorder(cluster, chosen.identity), metrics, self._self_tester
        )
        metrics.queue_depth.set_function(lambda: len(self._queue))

    async def run(self, elector: Elector, stop: asyncio.Event) -> None:
        """Work until told to stop.

        Raises `LeaseLostError`, `StaleWatchError`, `WatchEndedError`, `KindsChangedError`.
        """
        # kopf ends every task that is younger than itself, so it starts last and everything else first.
        tasks = [asyncio.create_task(stop.wait()), asyncio.create_task(elector.hold())]
        tasks += [asyncio.create_task(self._work()) for _ in range(self._options.workers)]
        tasks += [asyncio.create_task(self._scrape()), asyncio.create_task(self._sentinel.run())]
        tasks += [asyncio.create_task(self._discovery.run()), asyncio.create_task(self._self_tester.run())]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(self._watch()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _watch(self) -> None:
        await self._await_access()
        await self._watches.run(self._options.namespaces)

    async def _await_access(self) -> None:
        """Wait until everything that is to be watched can be listed.

        Kopf looks for its kinds once and idles without the CRD; without a permission it gives up after a minute.
        """
        told = ""
        while obstacle := await self._obstacle():
            if obstacle != told:
                log.warning("waiting: %s", obstacle)
                told = obstacle
            await asyncio.sleep(ACCESS_PERIOD)

    async def _obstacle(self) -> str:
        for kind, label in self._kinds.items():
            for namespace in self._options.namespaces or (None,):
                try:
                    await self._cluster.list_versions(kind, namespace, label)
                except ApiError as error:
                    advice = "apply the manifests in crds/" if error.code == 404 else "mend what it names"
                    return f"{kind[1]} can't be listed: {error}; {advice}"
        return ""

    async def _work(self) -> None:
        await self._watches.synced.wait()
        # Else a restart would call every engine unmeasured until the first scrape has come back.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SCRAPE):
                await self._scraper.ran.wait()
        await self._queue.work(self._reconcile)

    async def _scrape(self) -> None:
        await self._watches.synced.wait()
        await self._scraper.run()

    async def _reconcile(self, key: ServiceKey) -> float | None:
        result = "failed"
        try:
            with self._metrics.reconcile_seconds.time():
                again_in = await self._reconciler(key)
            result = "done"
        except RetryLaterError:
            result = "retry"
            raise
        finally:
            self._metrics.reconciles.labels(result).inc()
        return again_in
