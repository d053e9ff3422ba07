"""Self-tests of fake engines over one shared tier: what is wrong with them is named, and nothing waits for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.parse import engine_sample
from llmcache_operator.core.probe import CONTROL_SALT
from llmcache_operator.core.values import SelfTest, SelfTestResult, ServiceKey
from llmcache_operator.core.window import Tokens
from llmcache_operator.edge import fetching, probing, scraping
from llmcache_operator.edge.measuring import MeasurementBook
from llmcache_operator.edge.metrics import Metrics
from llmcache_operator.edge.selftest import SelfTester
from llmcache_operator.edge.workqueue import WorkQueue
from tests.fakes.engine import Engine, Fault, Lru, Speeds, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from llmcache_operator.core.values import Json

KEY = ServiceKey("ns", "chat")
FAST = Speeds(prefill=1e6, reload=1e6, decode=1e6)
TEST = SelfTest(KEY, "uid-chat", "fake", "f1", engines=(), servers=(), chunk=256, tail=33, busy=4)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes store at once: there is nothing to wait for."""
    monkeypatch.setattr(probing, "STORE_PATIENCE", (0.05, 0.05, 0.1))
    monkeypatch.setattr(probing, "POLL_SECONDS", 0.01)


def impatient(patch: pytest.MonkeyPatch) -> None:
    """Give up soon on what never comes."""
    patch.setattr(probing, "COUNT_SECONDS", 0.2)
    patch.setattr(fetching, "TIME_LIMIT", 0.2)


def pod(component: str, name: str, ip: str) -> Json:
    labels = {"app.kubernetes.io/component": component}
    return {"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels}, "status": {"podIP": ip}}


@dataclass
class Fleet:
    """Fake engines on addresses of their own, one shared tier, and a tester."""

    engines: dict[str, Engine]
    test: SelfTest
    book: MeasurementBook = field(default_factory=MeasurementBook)
    metrics: Metrics = field(default_factory=Metrics)

    async def result(self, test: SelfTest | None = None, *, starts: int = 1) -> SelfTestResult:
        """Carry out a self-test, and return what the book holds of it once the service is to be looked at."""
        queue = WorkQueue()
        tester = SelfTester(self.book, queue, self.metrics)
        for _ in range(starts):
            tester.start(test or self.test)
        running = asyncio.create_task(tester.run())
        try:
            async with asyncio.timeout(20):
                while not len(queue):  # noqa: ASYNC110 - the queue tells nobody
                    await asyncio.sleep(0.005)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        found = self.book.measurement(KEY, "uid-chat").self_test
        assert found is not None
        return found

    def scrape(self) -> None:
        """Sample every engine now, as the scraper does."""
        for name, engine in self.engines.items():
            sample = engine_sample(name, f"uid-{name}", time.time(), engine.metrics())
            self.book.update(KEY, "uid-chat", lambda found, sample=sample: found.with_engine(sample))

    def asked(self) -> int:
        """How many prompts the engines got."""
        return sum(len(engine.requests) for engine in self.engines.values())


@asynccontextmanager
async def cache_server(monkeypatch: pytest.MonkeyPatch, tier: Lru) -> AsyncIterator[Json]:
    async def metrics(_: web.Request) -> web.Response:
        lines = [f'lmcache_mp_l1_write_chunks_total{{cache_salt="{salt}"}} {n}' for salt, n in tier.stored.items()]
        return web.Response(text="\n".join(lines) + "\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setitem(scraping.PORTS, "cache-server", runner.addresses[0][1])
    try:
        yield pod("cache-server", "cache", "127.0.0.1")
    finally:
        await runner.cleanup()


@asynccontextmanager
async def fleet(monkeypatch: pytest.MonkeyPatch, *names: str) -> AsyncIterator[Fleet]:
    """Engines in a ring, in the order of their names."""
    tier, engines = Lru(1 << 16), {}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(cache_server(monkeypatch, tier))
        pods, port = [], 0
        for index, name in enumerate(names, start=2):
            engines[name] = Engine(name, speeds=FAST, shared=tier)
            served = await serve(engines[name], port, host=f"127.0.0.{index}")
            stack.push_async_callback(served.stop)
            port = served.port
            pods.append(pod("engine", name, f"127.0.0.{index}"))
        monkeypatch.setitem(scraping.PORTS, "engine", port)
        yield Fleet(engines, replace(TEST, engines=tuple(pods), servers=(server,)))


async def test_engines_that_share_are_verified_with_three_prompts_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(monkeypatch, "a", "b", "c") as three:
        found = await three.result()

        assert found.reason is Reason.VERIFIED
        assert "3 of 3 engines" in found.message
        assert [len(engine.requests) for engine in three.engines.values()] == [3, 3, 3]
        assert all(engine.sources["external_kv_transfer"] == 256 for engine in three.engines.values())
        prompts = [str(request["prompt"]) for engine in three.engines.values() for request in engine.requests]
        assert len(set(prompts)) == 3, "a prompt of its own for each pair"


async def test_the_tokens_of_a_test_are_no_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(monkeypatch, "a", "b") as two:
        two.scrape()
        await two.result()
        two.scrape()

        assert sum(engine.sources["local_compute"] for engine in two.engines.values()) == 2 * (289 + 33 + 289)
        assert two.book.measurement(KEY, "uid-chat").tokens(time.time(), 300) == Tokens()


def with_other_key(engine: Engine) -> None:
    engine.key = "another/path"


def without_connector(engine: Engine) -> None:
    engine.shared = None


def with_other_weights(engine: Engine) -> None:
    engine.weights = "w2"


def with_fault(fault: Fault) -> Callable[[Engine], None]:
    def spoil(engine: Engine) -> None:
        engine.fault = fault

    return spoil


@pytest.mark.parametrize(
    ("spoil", "reason", "words"),
    [
        pytest.param(with_other_key, Reason.NOTHING_SHARED, "have b in them", id="another key"),
        pytest.param(without_connector, Reason.NOTHING_SHARED, "have b in them", id="no connector"),
        pytest.param(
            with_fault(Fault.STORES_NOTHING), Reason.NOTHING_SHARED, "c computed a prompt again", id="stores nothing"
        ),
        pytest.param(with_other_weights, Reason.WRONG_KV, "different weights", id="other weights under one key"),
        pytest.param(with_fault(Fault.SPOILS_KV), Reason.WRONG_KV, "the cache changed it", id="spoilt KV"),
        pytest.param(with_fault(Fault.REFUSE), Reason.PROBE_FAILED, "answered 503", id="refuses"),
        pytest.param(with_fault(Fault.GARBAGE), Reason.PROBE_FAILED, "127.0.0.3", id="garbage"),
        pytest.param(with_fault(Fault.HANG), Reason.PROBE_FAILED, "took longer than", id="hangs"),
        pytest.param(
            with_fault(Fault.STUCK), Reason.PROBE_FAILED, "b answered a prompt, but", id="counters stand still"
        ),
    ],
)
@pytest.mark.parametrize("tells_cached", [True, False], ids=["usage tells", "counters only"])
async def test_what_is_wrong_with_an_engine_is_named_and_clears_when_it_is_mended(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Engine], None], reason: Reason, words: str, *, tells_cached: bool
) -> None:
    async with fleet(monkeypatch, "a", "b", "c") as three:
        for engine in three.engines.values():
            engine.tells_cached = tells_cached
        odd = three.engines["b"]
        well = (odd.key, odd.shared, odd.weights, odd.fault)
        spoil(odd)

        with monkeypatch.context() as patch:
            if reason is Reason.PROBE_FAILED:
                impatient(patch)
            found = await three.result()
        assert found.reason is reason
        assert words in found.message
        assert found.failures == 1

        odd.key, odd.shared, odd.weights, odd.fault = well
        again = await three.result(replace(three.test, last=found))
        assert (again.reason, again.failures) == (Reason.VERIFIED, 0)


async def test_what_a_reader_computes_alone_is_kept_out_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(monkeypatch, "a", "b") as two:
        await two.result()

        for engine in two.engines.values():
            salts = [request.get("cache_salt") for request in engine.requests]
            assert sorted(salts, key=str) == [None, None, CONTROL_SALT]


async def test_an_answer_that_differs_although_kv_is_right_is_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each engine answers from the cache as it does alone, so KV is not what differs."""
    async with fleet(monkeypatch, "a", "b") as two:
        for name, engine in two.engines.items():
            monkeypatch.setattr(engine, "accent", name)

        assert (await two.result()).reason is Reason.VERIFIED


@pytest.mark.parametrize("load", [{"waiting": 1}, {"running": 4}])
async def test_engines_that_became_busy_are_not_asked(monkeypatch: pytest.MonkeyPatch, load: dict[str, int]) -> None:
    async with fleet(monkeypatch, "a", "b") as two:
        for name, value in load.items():
            setattr(two.engines["b"], name, value)

        assert (await two.result()).reason is Reason.SATURATED
        assert two.asked() == 0


async def test_a_known_result_survives_a_test_that_found_all_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    last = SelfTestResult(1.0, "f1", Reason.VERIFIED, "told")
    async with fleet(monkeypatch, "a", "b") as two:
        two.engines["a"].waiting = 1

        assert await two.result(replace(two.test, last=last)) == last


async def test_a_slow_store_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "STORE_PATIENCE", (5.0, 5.0, 5.0))
    async with fleet(monkeypatch, "a", "b") as two:
        for engine in two.engines.values():
            monkeypatch.setattr(engine, "store_delay", 0.15)

        assert (await two.result()).reason is Reason.VERIFIED
        assert two.asked() == 6


async def test_without_a_cache_server_to_ask_the_test_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(monkeypatch, "a", "b") as two:
        nobody = pod("cache-server", "cache", "127.0.0.254")

        assert (await two.result(replace(two.test, servers=(nobody,)))).reason is Reason.VERIFIED


async def test_a_service_is_tested_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(monkeypatch, "a", "b") as two:
        await two.result(starts=5)

        assert two.asked() == 6


async def test_a_bug_ends_a_test_and_not_the_operator(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(monkeypatch, "a", "b") as two:
        with monkeypatch.context() as patch:
            patch.setattr(probing.probe, "same", None)
            found = await two.result()
        assert found.reason is Reason.PROBE_FAILED
        assert "log" in found.message
        assert "Traceback" in caplog.text

        assert (await two.result()).reason is Reason.VERIFIED


async def test_results_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet(monkeypatch, "a", "b") as two:
        await two.result()

        assert b'llmcache_operator_self_tests_total{result="Verified"} 1.0' in two.metrics.render()
