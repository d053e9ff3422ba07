"""Scrapes of pods that are well, slow, huge or broken: a bounded cost, and a reason that a person understands."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from llmcache_operator.core.values import ServiceKey
from llmcache_operator.edge import fetching, scraping
from llmcache_operator.edge.measuring import MeasurementBook
from llmcache_operator.edge.metrics import Metrics
from llmcache_operator.edge.scraping import Scraper, measurable
from llmcache_operator.edge.workqueue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from llmcache_operator.core.values import Json
    from llmcache_operator.core.window import Measurement

KEY = ServiceKey("ns", "chat")
NOW = 1_800_000_000.0
MODELS = json.dumps({"data": [{"id": "smol", "root": "/llmcache/run/abc-def"}]})


def engine_metrics(computed: int = 100, engine_hits: int = 20, server_hits: int = 30) -> str:
    counts = {"local_compute": computed, "local_cache_hit": engine_hits, "external_kv_transfer": server_hits}
    name = "vllm:prompt_tokens_by_source_total"
    lines = [f'{name}{{source="{source}"}} {value}.0' for source, value in counts.items()]
    return "\n".join([*lines, "vllm:num_requests_running 1.0", "vllm:num_requests_waiting 0.0", ""])


CACHE_METRICS = "lmcache_mp_l1_usage_ratio 0.25\nlmcache_mp_l1_memory_usage_bytes 1024.0\n"
ROUTER_METRICS = 'llmcache_router_picks_total{reason="prefix"} 7.0\nllmcache_router_picks_total{reason="load"} 2.0\n'
STATUS = json.dumps({"chunk_size": 256, "non_cuda_context_meta": {"1": {"model_name": "/m", "world_size": 1}}})


def pod(component: str, name: str, **status: Any) -> Json:
    labels = {"app.kubernetes.io/component": component, "llmcache.dev/service": "chat"}
    container = {"name": component, "started": True, "restartCount": 0}
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "labels": labels},
        "status": {"podIP": "127.0.0.1", "containerStatuses": [container]} | status,
    }


class Pods:
    """What the watches would show."""

    def __init__(self, *pods: Json) -> None:
        self.listed = pods
        self.spec: Json = {}

    def keys(self) -> list[ServiceKey]:
        return [KEY]

    def service(self, key: ServiceKey) -> Json | None:
        return {"metadata": {"name": "chat", "namespace": "ns", "uid": "uid-chat"}, "spec": self.spec}

    def pods(self, key: ServiceKey) -> tuple[Json, ...]:
        return self.listed


@asynccontextmanager
async def serving(
    monkeypatch: pytest.MonkeyPatch, component: str, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[None]:
    """Answer on loopback in place of the pods of a component."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setitem(scraping.PORTS, component, runner.addresses[0][1])
    try:
        yield
    finally:
        await runner.cleanup()


async def one_round(pods: Pods, rounds: int = 1) -> tuple[Measurement, WorkQueue]:
    book, queue = MeasurementBook(), WorkQueue()
    scraper = Scraper(pods, book, queue, Metrics(), interval=1.0, window=300, clock=lambda: NOW)
    async with fetching.client() as http:
        for _ in range(rounds):
            await scraper.round(http)
    return book.measurement(KEY, "uid-chat"), queue


async def test_engines_and_cache_server_are_measured_and_the_service_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def engine(request: web.Request) -> web.Response:
        return web.Response(text=MODELS if request.path == "/v1/models" else engine_metrics())

    async def cache(request: web.Request) -> web.Response:
        return web.Response(text=CACHE_METRICS)

    async with serving(monkeypatch, "engine", engine), serving(monkeypatch, "cache-server", cache):
        measured, queue = await one_round(Pods(pod("engine", "e0"), pod("engine", "e1"), pod("cache-server", "c0")))

    assert {samples[-1].pod for samples in measured.engines.values()} == {"e0", "e1"}
    assert {samples[-1].model_path for samples in measured.engines.values()} == {"/llmcache/run/abc-def"}
    assert measured.cache is not None
    assert measured.cache.usage_ratio == 0.25
    assert measured.failures == {}
    assert len(queue) == 1


async def test_versions_and_the_status_of_the_cache_server_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def engine(request: web.Request) -> web.Response:
        pages = {"/v1/models": MODELS, "/version": '{"version": "0.32.0"}', "/metrics": engine_metrics()}
        return web.Response(text=pages[request.path])

    async def cache(request: web.Request) -> web.Response:
        pages = {"/status": STATUS, "/lmc_version": '"0.5.6"', "/metrics": CACHE_METRICS}
        return web.Response(text=pages[request.path])

    async with serving(monkeypatch, "engine", engine), serving(monkeypatch, "cache-server", cache):
        measured, _ = await one_round(Pods(pod("engine", "e0"), pod("cache-server", "c0")), rounds=2)

    assert [sample.version for sample in measured.engines["uid-e0"]] == ["0.32.0", "0.32.0"]
    assert measured.cache is not None
    assert (measured.cache.version, measured.cache.chunk_size, measured.cache.registered) == ("0.5.6", 256, 1)


async def test_pods_that_tell_no_version_and_no_status_are_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def engine(request: web.Request) -> web.Response:
        if request.path == "/version":
            return web.Response(status=404)
        return web.Response(text=MODELS if request.path == "/v1/models" else engine_metrics())

    async def cache(request: web.Request) -> web.Response:
        return web.Response(text=CACHE_METRICS, status=200 if request.path == "/metrics" else 500)

    async with serving(monkeypatch, "engine", engine), serving(monkeypatch, "cache-server", cache):
        measured, _ = await one_round(Pods(pod("engine", "e0"), pod("cache-server", "c0")))

    assert measured.failures == {}
    assert measured.engines["uid-e0"][-1].version is None
    assert measured.cache is not None
    assert (measured.cache.version, measured.cache.chunk_size, measured.cache.registered) == (None, None, None)


async def test_routers_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    async def router(request: web.Request) -> web.Response:
        return web.Response(text=ROUTER_METRICS)

    running = {"running": {"startedAt": "2026-11-24T18:00:00Z"}}
    container = {"name": "router", "started": True, "restartCount": 0, "state": running}
    async with serving(monkeypatch, "router", router):
        measured, _ = await one_round(Pods(pod("router", "r0", containerStatuses=[container]), pod("router", "r1")))

    assert measured.routers["uid-r0"][-1].picks == 9
    assert measured.routers["uid-r0"][-1].started_at == 1795543200.0
    assert measured.routers["uid-r1"][-1].started_at is None


async def test_prompts_count_as_short_by_the_chunk_size_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    buckets = "".join(
        f'vllm:request_prompt_tokens_bucket{{le="{le}"}} {n}\n' for le, n in ((50, 1), (100, 3), (200, 6))
    )

    async def engine(request: web.Request) -> web.Response:
        return web.Response(text=MODELS if request.path == "/v1/models" else engine_metrics() + buckets)

    pods = Pods(pod("engine", "e0"))
    pods.spec = {"cache": {"chunkSize": 128}}
    async with serving(monkeypatch, "engine", engine):
        measured, _ = await one_round(pods)

    assert measured.engines["uid-e0"][-1].short == 3


async def test_what_an_engine_has_loaded_is_asked_once_and_again_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    async def engine(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=MODELS if request.path == "/v1/models" else engine_metrics())

    pods = Pods(pod("engine", "e0"))
    book, queue = MeasurementBook(), WorkQueue()
    scraper = Scraper(pods, book, queue, Metrics(), interval=1.0, window=300, clock=lambda: NOW)
    async with serving(monkeypatch, "engine", engine), fetching.client() as http:
        for _ in range(3):
            await scraper.round(http)
        restarted = {"name": "engine", "started": True, "restartCount": 1}
        pods.listed = (pod("engine", "e0", containerStatuses=[restarted]),)
        await scraper.round(http)

    assert asked.count("/metrics") == 4
    assert asked.count("/v1/models") == 2


async def _never(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


async def _drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"# drip\n")
        await asyncio.sleep(0.02)


async def _flood(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65536)


async def _broken(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def _redirect(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/secret"})


async def _garbage(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\xff\xfe<html>")


async def _not_a_number(_: web.Request) -> web.StreamResponse:
    return web.Response(text=engine_metrics().replace("100.0", "NaN"))


BAD: dict[str, tuple[Callable[[web.Request], Awaitable[web.StreamResponse]], str]] = {
    "never answers": (_never, "took longer than"),
    "drips": (_drip, "took longer than"),
    "floods": (_flood, "more than"),
    "answers 500": (_broken, "answered 500"),
    "redirects": (_redirect, "answered 302"),
    "answers garbage": (_garbage, "vllm:prompt_tokens_by_source_total"),
    "answers NaN": (_not_a_number, "nan"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_engine_is_a_failure_with_a_reason_and_spoils_no_other(
    bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIME_LIMIT", 1.0)
    monkeypatch.setattr(fetching, "BODY_LIMIT", 2**20)
    answer, why = BAD[bad]

    async def cache(request: web.Request) -> web.Response:
        return web.Response(text=CACHE_METRICS)

    async with serving(monkeypatch, "engine", answer), serving(monkeypatch, "cache-server", cache):
        async with asyncio.timeout(30):
            measured, queue = await one_round(Pods(pod("engine", "e0"), pod("cache-server", "c0")))
            while "c0" in measured.failures:  # A busy machine takes longer than the limit by itself.
                measured, queue = await one_round(Pods(pod("engine", "e0"), pod("cache-server", "c0")))

    assert measured.engines == {}
    assert why in measured.failures["e0"].why
    assert measured.cache is not None
    assert len(queue) == 1


async def test_an_engine_that_is_not_there_is_a_failure_that_names_its_address() -> None:
    measured, _ = await one_round(Pods(pod("engine", "e0", podIP="127.0.0.254")))

    assert "http://127.0.0.254:8000/metrics" in measured.failures["e0"].why


async def test_a_failure_ends_with_the_next_success_or_with_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    well = False

    async def engine(request: web.Request) -> web.Response:
        if not well:
            return web.Response(status=503)
        return web.Response(text=MODELS if request.path == "/v1/models" else engine_metrics())

    pods = Pods(pod("engine", "e0"), pod("engine", "e1"))
    book = MeasurementBook()
    scraper = Scraper(pods, book, WorkQueue(), Metrics(), interval=1.0, window=300, clock=lambda: NOW)
    async with serving(monkeypatch, "engine", engine), fetching.client() as http:
        await scraper.round(http)
        assert book.measurement(KEY, "uid-chat").failures.keys() == {"e0", "e1"}
        well, pods.listed = True, pods.listed[:1]
        await scraper.round(http)

    assert book.measurement(KEY, "uid-chat").failures == {}


@pytest.mark.parametrize(
    ("what", "unfit"),
    {
        "another's pod": pod("trainer", "t0"),
        "no address yet": pod("engine", "e0", podIP=None),
        "still starting": pod("engine", "e0", containerStatuses=[{"name": "engine", "started": False}]),
        "no containers yet": pod("engine", "e0", containerStatuses=[]),
    }.items(),
)
def test_only_pods_that_can_answer_are_asked(what: str, unfit: Json) -> None:
    assert measurable(pod("engine", "e0")) == ["engine"]
    assert measurable(unfit) == [], what


def test_ipv6_addresses_are_bracketed() -> None:
    assert scraping.address(pod("engine", "e0", podIP="fd00::1"), "engine") == "http://[fd00::1]:8000"


async def test_measurements_of_another_service_of_the_same_name_are_not_taken_over() -> None:
    book = MeasurementBook()
    measured, _ = await one_round(Pods(pod("engine", "e0", podIP="127.0.0.254")))
    book.update(KEY, "uid-old", lambda _: measured)

    assert book.measurement(KEY, "uid-old") == measured
    assert book.measurement(KEY, "uid-new").failures == {}
