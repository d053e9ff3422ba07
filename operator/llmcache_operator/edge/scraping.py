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

from llmcache_operator.core.l2 import l2_sample
from llmcache_operator.core.moment import seconds
from llmcache_operator.core.parse import DEFAULT_CHUNK, cache_sample, engine_sample, router_sample, version
from llmcache_operator.core.sidecar import GUARD, cache_server_name, server_beside, sidecar
from llmcache_operator.core.values import Json, ScrapeFailure, ServiceKey
from llmcache_operator.core.window import Measurement
from llmcache_operator.edge.fetching import AT_ONCE, FetchError, client, fetch

if TYPE_CHECKING:
    import httpx

    from llmcache_operator.edge.measuring import MeasurementBook
    from llmcache_operator.edge.metrics import Metrics
    from llmcache_operator.edge.workqueue import WorkQueue

COMPONENT = "app.kubernetes.io/component"
ENGINE, CACHE_SERVER, ROUTER, L2 = "engine", "cache-server", "router", "l2"
PORTS = {ENGINE: 8000, CACHE_SERVER: 8080, ROUTER: 9090, L2: 9091}

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
        due = [(pod, component) for pod in pods for component in measurable(pod)]
        folds = await asyncio.gather(*(self._scrape(http, pod, component, chunk) for pod, component in due))
        names = frozenset(name for pod in pods for name in (str(pod["metadata"]["name"]), cache_server_name(pod)))

        def fold(measurement: Measurement) -> Measurement:
            for add in folds:
                measurement = add(measurement)
            return measurement.only(names, self.clock(), self.window)

        self.book.update(key, resource["metadata"]["uid"], fold)
        self.queue.add(key)

    async def _scrape(self, http: httpx.AsyncClient, pod: Json, component: str, chunk: int) -> Fold:
        try:
            async with self._slots:
                fold = await self._sample(http, pod, component, chunk)
        except (FetchError, ValueError, ArithmeticError, RecursionError) as error:
            # Whoever may run a pod decides what it answers: nothing of that may end the operator.
            self.metrics.scrapes.labels(component, "failed").inc()
            failure = ScrapeFailure(_name(pod, component), self.clock(), str(error))
            return lambda measurement: measurement.with_failure(failure)
        self.metrics.scrapes.labels(component, "ok").inc()
        return fold

    async def _sample(self, http: httpx.AsyncClient, pod: Json, component: str, chunk: int) -> Fold:
        base = address(pod, component)
        name, uid = _name(pod, component), pod["metadata"]["uid"]
        if component == L2:
            l2 = l2_sample(self.clock(), await fetch(http, f"{base}/state"))
            return lambda measurement: measurement.with_l2(l2, name)
        text = await fetch(http, f"{base}/metrics")
        at = self.clock()
        if component == ENGINE:
            models = await self._fact(http, pod, component, "/v1/models")
            engine = engine_sample(name, uid, at, text, models, chunk=chunk)
            engine = replace(engine, version=await self._version(http, pod, component, "/version"))
            return lambda measurement: measurement.with_engine(engine)
        if component == CACHE_SERVER:
            with contextlib.suppress(FetchError):
                cache = cache_sample(at, text, await fetch(http, f"{base}/status"))
                cache = replace(cache, version=await self._version(http, pod, component, "/lmc_version"))
                return lambda measurement: measurement.with_cache(cache, name)
            bare = cache_sample(at, text)
            return lambda measurement: measurement.with_cache(bare, name)
        router = replace(router_sample(name, uid, at, text), started_at=_started_at(pod, component))
        return lambda measurement: measurement.with_router(router)

    async def _fact(self, http: httpx.AsyncClient, pod: Json, component: str, path: str) -> str:
        """Return what a pod answers at a path, asking once for each start of its main container."""
        facts = self._facts.setdefault((pod["metadata"]["uid"], restarts(pod)), {})
        if path not in facts:
            facts[path] = await fetch(http, f"{address(pod, component)}{path}")
        return facts[path]

    async def _version(self, http: httpx.AsyncClient, pod: Json, component: str, path: str) -> str | None:
        """Return the version that a pod tells, or None: without it everything else still counts."""
        with contextlib.suppress(FetchError):
            return version(await self._fact(http, pod, component, path))
        return None


def _started_at(pod: Json, component: str) -> float | None:
    """Return when a container started: the router's own metrics don't tell that its counters began again."""
    running = (_container(pod, component).get("state") or {}).get("running") or {}
    return seconds(running["startedAt"]) if running.get("startedAt") else None


def _chunk(resource: Json) -> int:
    """Return LMCache's chunk size; the API server fills in the default of a field, but not of its parent."""
    return int(((resource.get("spec") or {}).get("cache") or {}).get("chunkSize") or DEFAULT_CHUNK)


def component_of(pod: Json) -> str:
    """Return which part of a service a pod is, or an empty string."""
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get(COMPONENT, ""))


def measurable(pod: Json) -> list[str]:
    """Return which programs of a pod have metrics and have got far enough to serve them, by component."""
    component = component_of(pod)
    if component not in PORTS or pod["metadata"].get("deletionTimestamp") or not (pod.get("status") or {}).get("podIP"):
        return []
    found = [component] if _container(pod, component).get("started") else []
    beside = {CACHE_SERVER: server_beside(pod), L2: sidecar(pod, GUARD)}
    return [*found, *(name for name, status in beside.items() if status.get("started"))]


def restarts(pod: Json) -> int:
    """Return how often the pod's main container was restarted."""
    return int(_container(pod, component_of(pod)).get("restartCount") or 0)


def address(pod: Json, component: str) -> str:
    """Return the base URL of what a program of a pod serves its metrics on."""
    ip = pod["status"]["podIP"]
    host = f"[{ip}]" if ":" in ip else ip
    return f"http://{host}:{PORTS[component]}"


def _name(pod: Json, component: str) -> str:
    return cache_server_name(pod) if component in (CACHE_SERVER, L2) else str(pod["metadata"]["name"])


def _container(pod: Json, name: str) -> Json:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((status for status in statuses if status.get("name") == name), {})
