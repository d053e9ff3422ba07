"""Scrapes of engines and cache servers: a task of its own that never holds up a reconcile.

Ports and paths: vLLM serves /metrics and /v1/models on its API port; LMCache serves /metrics on its HTTP
port (its `--prometheus-port` opens nothing).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llmcache_operator.core.parse import cache_sample, engine_sample
from llmcache_operator.core.values import Json, ScrapeFailure, ServiceKey
from llmcache_operator.core.window import Measurement
from llmcache_operator.edge.fetching import AT_ONCE, FetchError, client, fetch

if TYPE_CHECKING:
    import httpx

    from llmcache_operator.edge.measuring import MeasurementBook
    from llmcache_operator.edge.metrics import Metrics
    from llmcache_operator.edge.workqueue import WorkQueue

COMPONENT = "app.kubernetes.io/component"
ENGINE, CACHE_SERVER = "engine", "cache-server"
PORTS = {ENGINE: 8000, CACHE_SERVER: 8080}

Fold = Callable[[Measurement], Measurement]


class Pods(Protocol):
    """What the scraper needs of the watches."""

    def keys(self) -> list[ServiceKey]:
        """Name every service."""

    def service(self, key: ServiceKey) -> Json | None:
        """Return the custom resource, or None."""

    def pods(self, key: ServiceKey) -> tuple[Json, ...]:
        """Return the service's pods."""


@dataclass
class Scraper:
    """Measures all services every `interval` seconds. `clock` gives Unix time in seconds."""

    pods: Pods
    book: MeasurementBook
    queue: WorkQueue
    metrics: Metrics
    interval: float
    window: int
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.ran = asyncio.Event()
        """Set once every service was measured, or could not be, for the first time."""
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._models: dict[tuple[str, int], str] = {}

    async def run(self) -> None:
        """Scrape for ever."""
        loop = asyncio.get_running_loop()
        async with client() as http:
            while True:
                due = loop.time() + self.interval
                await self.round(http)
                await asyncio.sleep(max(0.0, due - loop.time()))

    async def round(self, http: httpx.AsyncClient) -> None:
        """Measure every service once, all at the same time."""
        keys = self.pods.keys()
        await asyncio.gather(*(self._measure(http, key) for key in keys))
        known = {(str(pod["metadata"]["uid"]), restarts(pod)) for key in keys for pod in self.pods.pods(key)}
        self._models = {pod: models for pod, models in self._models.items() if pod in known}
        self.metrics.scraped_at.set(self.clock())
        self.ran.set()

    async def _measure(self, http: httpx.AsyncClient, key: ServiceKey) -> None:
        resource = self.pods.service(key)
        if resource is None:
            return
        pods = self.pods.pods(key)
        folds = await asyncio.gather(*(self._scrape(http, pod) for pod in pods if is_measurable(pod)))
        names = frozenset(str(pod["metadata"]["name"]) for pod in pods)

        def fold(measurement: Measurement) -> Measurement:
            for add in folds:
                measurement = add(measurement)
            return measurement.only(names, self.clock(), self.window)

        self.book.update(key, resource["metadata"]["uid"], fold)
        self.queue.add(key)

    async def _scrape(self, http: httpx.AsyncClient, pod: Json) -> Fold:
        component = component_of(pod)
        try:
            async with self._slots:
                fold = await (self._engine if component == ENGINE else self._cache)(http, pod)
        except (FetchError, ValueError, ArithmeticError, RecursionError) as error:
            # Whoever may run a pod decides what it answers: nothing of that may end the operator.
            self.metrics.scrapes.labels(component, "failed").inc()
            failure = ScrapeFailure(pod["metadata"]["name"], self.clock(), str(error))
            return lambda measurement: measurement.with_failure(failure)
        self.metrics.scrapes.labels(component, "ok").inc()
        return fold

    async def _engine(self, http: httpx.AsyncClient, pod: Json) -> Fold:
        name, uid, base = pod["metadata"]["name"], pod["metadata"]["uid"], address(pod)
        text = await fetch(http, f"{base}/metrics")
        at = self.clock()
        # What an engine has loaded can't change without a restart, so it is asked once.
        run = (uid, restarts(pod))
        if run not in self._models:
            self._models[run] = await fetch(http, f"{base}/v1/models")
        sample = engine_sample(name, uid, at, text, self._models[run])
        return lambda measurement: measurement.with_engine(sample)

    async def _cache(self, http: httpx.AsyncClient, pod: Json) -> Fold:
        text = await fetch(http, f"{address(pod)}/metrics")
        sample = cache_sample(self.clock(), text)
        return lambda measurement: measurement.with_cache(sample, pod["metadata"]["name"])


def component_of(pod: Json) -> str:
    """Return which part of a service a pod is, or an empty string."""
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get(COMPONENT, ""))


def is_measurable(pod: Json) -> bool:
    """Whether a pod is one that has metrics and has got far enough to serve them."""
    component = component_of(pod)
    if component not in PORTS or pod["metadata"].get("deletionTimestamp"):
        return False
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and bool(_container(pod, component).get("started"))


def restarts(pod: Json) -> int:
    """Return how often the pod's main container was restarted."""
    return int(_container(pod, component_of(pod)).get("restartCount") or 0)


def address(pod: Json) -> str:
    """Return the base URL of what a pod serves its metrics on."""
    ip = pod["status"]["podIP"]
    host = f"[{ip}]" if ":" in ip else ip
    return f"http://{host}:{PORTS[component_of(pod)]}"


def _container(pod: Json, name: str) -> Json:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((status for status in statuses if status.get("name") == name), {})
