"""Scrapes of engines, cache servers and routers: a task of its own that never holds up a reconcile.

Ports and paths: vLLM serves /metrics, /v1/models and /version on its API port; LMCache serves /metrics, /status and
/lmc_version on its HTTP port (its `--prometheus-port` opens nothing); the router has a private port.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from llmcache_operator.core.parse import DEFAULT_CHUNK, cache_sample, engine_sample, router_sample, version
from llmcache_operator.core.values import Json, ScrapeFailure, ServiceKey
from llmcache_operator.core.window import Measurement
from llmcache_operator.edge.fetching import AT_ONCE, FetchError, client, fetch

if TYPE_CHECKING:
    import httpx

    from llmcache_operator.edge.measuring import MeasurementBook
    from llmcache_operator.edge.metrics import Metrics
    from llmcache_operator.edge.workqueue import WorkQueue

COMPONENT = "app.kubernetes.io/component"
ENGINE, CACHE_SERVER, ROUTER = "engine", "cache-server", "router"
PORTS = {ENGINE: 8000, CACHE_SERVER: 8080, ROUTER: 9090}

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
        self._facts: dict[tuple[str, int], dict[str, str]] = {}
        """What can't change while a container runs, by pod and restart: answers by path."""

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
        self._facts = {pod: facts for pod, facts in self._facts.items() if pod in known}
        self.metrics.scraped_at.set(self.clock())
        self.ran.set()

    async def _measure(self, http: httpx.AsyncClient, key: ServiceKey) -> None:
        resource = self.pods.service(key)
        if resource is None:
            return
        pods, chunk = self.pods.pods(key), _chunk(resource)
        folds = await asyncio.gather(*(self._scrape(http, pod, chunk) for pod in pods if is_measurable(pod)))
        names = frozenset(str(pod["metadata"]["name"]) for pod in pods)

        def fold(measurement: Measurement) -> Measurement:
            for add in folds:
                measurement = add(measurement)
            return measurement.only(names, self.clock(), self.window)

        self.book.update(key, resource["metadata"]["uid"], fold)
        self.queue.add(key)

    async def _scrape(self, http: httpx.AsyncClient, pod: Json, chunk: int) -> Fold:
        component = component_of(pod)
        try:
            async with self._slots:
                fold = await self._sample(http, pod, chunk)
        except (FetchError, ValueError, ArithmeticError, RecursionError) as error:
            # Whoever may run a pod decides what it answers: nothing of that may end the operator.
            self.metrics.scrapes.labels(component, "failed").inc()
            failure = ScrapeFailure(pod["metadata"]["name"], self.clock(), str(error))
            return lambda measurement: measurement.with_failure(failure)
        self.metrics.scrapes.labels(component, "ok").inc()
        return fold

    async def _sample(self, http: httpx.AsyncClient, pod: Json, chunk: int) -> Fold:
        component, base = component_of(pod), address(pod)
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        text = await fetch(http, f"{base}/metrics")
        at = self.clock()
        if component == ENGINE:
            models = await self._fact(http, pod, "/v1/models")
            engine = engine_sample(name, uid, at, text, models, chunk=chunk)
            engine = replace(engine, version=await self._version(http, pod, "/version"))
            return lambda measurement: measurement.with_engine(engine)
        if component == CACHE_SERVER:
            with contextlib.suppress(FetchError):
                cache = cache_sample(at, text, await fetch(http, f"{base}/status"))
                cache = replace(cache, version=await self._version(http, pod, "/lmc_version"))
                return lambda measurement: measurement.with_cache(cache, name)
            bare = cache_sample(at, text)
            return lambda measurement: measurement.with_cache(bare, name)
        router = router_sample(name, uid, at, text)
        return lambda measurement: measurement.with_router(router)

    async def _fact(self, http: httpx.AsyncClient, pod: Json, path: str) -> str:
        """Return what a pod answers at a path, asking once for each start of its container."""
        facts = self._facts.setdefault((pod["metadata"]["uid"], restarts(pod)), {})
        if path not in facts:
            facts[path] = await fetch(http, f"{address(pod)}{path}")
        return facts[path]

    async def _version(self, http: httpx.AsyncClient, pod: Json, path: str) -> str | None:
        """Return the version that a pod tells, or None: without it everything else still counts."""
        with contextlib.suppress(FetchError):
            return version(await self._fact(http, pod, path))
        return None


def _chunk(resource: Json) -> int:
    """Return LMCache's chunk size; the API server fills in the default of a field, but not of its parent."""
    return int(((resource.get("spec") or {}).get("cache") or {}).get("chunkSize") or DEFAULT_CHUNK)


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
