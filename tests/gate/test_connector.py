"""What the connector that the gate leaves for engines reports, with a stand-in for LMCache's, which engines have."""

import functools
import importlib.util
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from prometheus_client import CollectorRegistry, Counter

from llmcache_runtime.gate import leave_connector

VLLM = "vllm.distributed.kv_transfer.kv_connector.v1"
Report = tuple[set[str] | None, set[str] | None]


class Transfer:
    """One that is under way, or is over, well or not."""

    def __init__(self, *, done: bool, well: bool = True) -> None:
        self.query = lambda: done
        self.well = well

    def result(self, timeout: float) -> bool:
        assert timeout == 0
        if not self.well:
            raise ValueError("no such engine")
        return True


class Adapter:
    """LMCache's half in a worker: who is being loaded, and whether it takes its server for well."""

    instance_id = 4518353685943169707

    def __init__(self, loading: dict[str, bool]) -> None:
        self.retrieve_futures = {request: (Transfer(done=done), [0]) for request, done in loading.items()}
        self.store_futures: dict[str, Transfer] = {}
        self.pings = 0
        self.ill = threading.Event()
        self._health_event = SimpleNamespace(is_set=lambda: self.well, clear=self.ill.set, set=self.ill.clear)

    @property
    def well(self) -> bool:
        return not self.ill.is_set()

    def _ensure_heartbeat_started(self) -> None:
        self.pings += 1

    def _heartbeat_stop_requested(self) -> bool:
        return self.pings > 0


class Upstream:
    """Reports as lmcache 0.5.6 does: who is over counts as stored, and who is loaded counts as loaded."""

    shown: Any = None
    loads: ClassVar[dict[str, Transfer]] = {}
    drained = 0
    silent = False
    takes = True

    def __init__(self, vllm_config: Any, role: object, kv_cache_config: object = None) -> None:
        self.looks_up = role == "scheduler"
        self.loading: dict[str, bool] = vllm_config.loading
        self.worker_adapter = Adapter(self.loading)

    def register_kv_caches(self, kv_caches: object) -> None:
        pass

    def start_load_kv(self, forward_context: dict[str, bool]) -> None:
        self.loading |= forward_context
        self.worker_adapter.retrieve_futures |= Adapter(forward_context).retrieve_futures
        self.worker_adapter.retrieve_futures |= {request: (load, [0]) for request, load in self.loads.items()}

    def _get_connector_metadata(self) -> Any:
        op = SimpleNamespace(start=256, end=1024)
        asked = [("RETRIEVE", "one"), ("STORE", "one"), ("RETRIEVE", "two")]
        return SimpleNamespace(requests=[SimpleNamespace(direction=way, request_id=who, op=op) for way, who in asked])

    def get_kv_connector_stats(self) -> Any:
        return SimpleNamespace(data={"lookup_duration_seconds": [0.1]}) if self.looks_up else None

    @classmethod
    def build_prom_metrics(cls, *_: object) -> Any:
        return cls.shown

    def wait_for_save(self) -> None:
        if self.silent:
            raise TimeoutError("PREPARE_STORE timed out")
        self.worker_adapter.store_futures["one"] = Transfer(done=True, well=self.takes)

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, None]:
        return True, None

    def update_connector_output(self, connector_output: Any) -> None:
        connector_output.seen = True

    def get_finished(self, finished_req_ids: set[str]) -> Report:
        self.drained += not self.worker_adapter.well
        loaded = {request for request, done in self.loading.items() if done}
        for request in loaded:
            del self.loading[request], self.worker_adapter.retrieve_futures[request]
        return set(finished_req_ids), loaded


@dataclass
class BaseStats:
    """vLLM's."""

    data: dict[str, Any] = field(default_factory=dict)


class BaseMetrics:
    """vLLM's."""

    def __init__(self, *_: object) -> None:
        pass


class Scheduler:
    """vLLM's, as far as it matters: it forgets a request at either report, and fails at one of a stranger."""

    def __init__(self, connector: Any, *requests: str) -> None:
        self.connector, self.requests = connector, dict.fromkeys(requests, False)

    def end(self, request: str) -> None:
        self.requests[request] = True
        self.connector.request_finished(SimpleNamespace(request_id=request), [])

    def update(self, stored: set[str], loaded: set[str]) -> None:
        output = SimpleNamespace(finished_sending=stored, finished_recving=loaded)
        self.connector.update_connector_output(output)
        assert output.seen
        for request in loaded:
            if self.requests[request]:
                del self.requests[request]
        for request in output.finished_sending:
            del self.requests[request]


def config(loading: dict[str, bool] | None = None, extra: dict[str, Any] | None = None) -> Any:
    """Return vLLM's configuration, as far as connectors read it."""
    return SimpleNamespace(
        loading=loading or {}, kv_transfer_config=SimpleNamespace(kv_connector_extra_config=extra or {})
    )


@pytest.fixture
def connector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the file that the gate leaves, as an engine does."""
    parent, module = ModuleType(VLLM), ModuleType(f"{VLLM}.lmcache_mp_connector")
    module.LMCacheMPConnector = Upstream  # type: ignore[attr-defined]
    parent.lmcache_mp_connector = module  # type: ignore[attr-defined]
    metrics = ModuleType(f"{VLLM}.metrics")
    metrics.KVConnectorStats = BaseStats  # type: ignore[attr-defined]
    metrics.KVConnectorPromMetrics = BaseMetrics  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, metrics.__name__, metrics)
    names = VLLM.split(".")
    for length in range(1, len(names)):
        name = ".".join(names[:length])
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, VLLM, parent)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    leave_connector(tmp_path)
    spec = importlib.util.spec_from_file_location("llmcache_connector", tmp_path / "llmcache_connector.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.LMCacheMPConnector


def test_a_request_whose_client_left_while_its_kv_was_loaded_ends_once(connector: Any) -> None:
    scheduler = Scheduler(connector(config(), "scheduler"), "left", "other")
    scheduler.end("left")

    scheduler.update(set(), {"left"})
    scheduler.update({"left"}, set())

    assert scheduler.requests == {"other": False}


def test_both_reports_at_once_end_it_once_too(connector: Any) -> None:
    scheduler = Scheduler(connector(config(), "scheduler"), "left")
    scheduler.end("left")

    scheduler.update({"left"}, {"left"})

    assert scheduler.requests == {}


def test_a_request_that_loaded_and_then_ran_ends_with_its_stores(connector: Any) -> None:
    scheduler = Scheduler(connector(config(), "scheduler"), "ran")
    scheduler.update(set(), {"ran"})
    assert scheduler.requests == {"ran": False}

    scheduler.end("ran")
    scheduler.update({"ran"}, set())

    assert scheduler.requests == {}


def test_blocks_are_not_freed_while_they_are_still_written_to(connector: Any) -> None:
    worker = connector(config({"left": False}), "worker")
    assert worker.get_finished({"left", "done"}) == ({"done"}, set())

    worker.loading["left"] = True

    assert worker.get_finished(set()) == ({"left"}, {"left"})
    assert worker.get_finished(set()) == (set(), set())


def test_an_lmcache_that_is_built_otherwise_is_left_as_it_is(connector: Any) -> None:
    worker = connector(config(), "worker")
    worker.worker_adapter = SimpleNamespace()

    worker.silent = True

    worker.register_kv_caches({})
    worker.wait_for_save()


OUT_OF_TIME, IN_TIME = {"lmcache.mp.mq_timeout": 0}, {"lmcache.mp.mq_timeout": 30}


def test_a_store_that_nobody_answers_ends_no_engine_and_counts_as_a_failed_ping(connector: Any) -> None:
    worker = connector(config(extra=IN_TIME), "worker")
    worker.silent = True

    worker.wait_for_save()

    assert not worker.worker_adapter.well


@pytest.mark.parametrize(
    ("extra", "takes", "well"), [(OUT_OF_TIME, False, False), (OUT_OF_TIME, True, True), (IN_TIME, False, True)]
)
def test_only_a_store_that_failed_for_want_of_time_counts_as_a_failed_ping(
    connector: Any, extra: dict[str, Any], *, takes: bool, well: bool
) -> None:
    worker = connector(config(extra=extra), "worker")
    worker.takes = takes

    worker.wait_for_save()

    assert worker.worker_adapter.well is well


def test_a_load_that_is_only_slow_is_no_failed_ping(connector: Any) -> None:
    worker = connector(config(extra=OUT_OF_TIME), "worker")
    worker.register_kv_caches({})

    worker.start_load_kv({"one": True})

    assert worker.worker_adapter.well


@dataclass
class Server:
    """Lists the engines that it knows under /status; `asked` is released with each answer."""

    engines: list[int] = field(default_factory=list)
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, connector: Any) -> Iterator[Server]:
    """Serve, and let connectors ask without rest."""
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f'{{"registered_non_cuda_instance_ids": {made.engines}}}'.encode())
            made.asked.release()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setitem(connector.register_kv_caches.__globals__, "_ASK_SECONDS", 0.01)
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        made.url = f"http://127.0.0.1:{http.server_port}/status"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield made
        http.shutdown()
        thread.join()


def test_an_engine_that_its_server_does_not_know_any_more_is_registered_again(connector: Any, server: Server) -> None:
    worker = connector(config({"left": False}, extra={"llmcache.status": server.url}), "worker")
    adapter = worker.worker_adapter
    server.engines.append(adapter.instance_id)
    worker.register_kv_caches({})
    for _ in range(3):
        assert server.asked.acquire(timeout=10)
    assert adapter.well

    server.engines.clear()
    assert adapter.ill.wait(timeout=10)

    # A good ping may come before the engine's next step: what the server was asked before it is over all the same.
    adapter.ill.clear()
    worker.get_finished(set())
    assert worker.drained == 1
    worker.get_finished(set())
    assert worker.drained == 1


def test_a_server_that_never_lists_engines_tells_nothing(connector: Any, server: Server) -> None:
    worker = connector(config(extra={"llmcache.status": server.url}), "worker")
    adapter = worker.worker_adapter
    # A number that begins like it is another engine's.
    server.engines.append(10 * adapter.instance_id)
    worker.register_kv_caches({})
    for _ in range(3):
        assert server.asked.acquire(timeout=10)

    assert adapter.well
    adapter.pings = 1


def test_loads_that_engines_wait_for_are_counted(connector: Any) -> None:
    worker = connector(config(), "worker")
    worker.register_kv_caches({"layer": SimpleNamespace(device=SimpleNamespace(type="cpu"))})

    worker.start_load_kv({"one": True})

    ((seconds, tokens),) = worker.get_kv_connector_stats().data["loads"]
    assert seconds > 0
    assert tokens == 768
    assert worker.get_kv_connector_stats() is None


def test_loads_that_failed_or_that_engines_do_not_wait_for_are_not_counted(connector: Any) -> None:
    cpu, gpu = ({"layer": SimpleNamespace(device=SimpleNamespace(type=name))} for name in ("cpu", "cuda"))
    failed, slow, good = Transfer(done=True, well=False), Transfer(done=False), Transfer(done=True)
    for caches, load, extra in ((cpu, failed, {}), (cpu, slow, {}), (gpu, good, {}), (cpu, good, OUT_OF_TIME)):
        worker = connector(config(extra=extra), "worker")
        worker.register_kv_caches(caches)
        worker.loads = {"one": load}

        worker.start_load_kv({"one": True})

        assert worker.get_kv_connector_stats() is None


def test_stats_of_workers_and_scheduler_are_put_together_and_shown(
    connector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, scheduler = connector(config(), "worker"), connector(config(), "scheduler")
    worker.register_kv_caches({})
    worker.start_load_kv({"one": True})
    stats = worker.get_kv_connector_stats().aggregate(scheduler.get_kv_connector_stats())
    theirs, registry = ModuleType("theirs"), CollectorRegistry()
    seen: list[Any] = []
    theirs.observe = lambda data, _: seen.append(data)  # type: ignore[attr-defined]
    monkeypatch.setattr(Upstream, "shown", theirs)
    kinds = {Counter: functools.partial(Counter, registry=registry)}

    shown = connector.build_prom_metrics(None, kinds, ["engine"], {0: ["0"]})
    shown.observe(connector.build_kv_connector_stats(stats.data).data)

    assert registry.get_sample_value("vllm:llmcache_load_tokens_total", {"engine": "0"}) == 768
    assert (registry.get_sample_value("vllm:llmcache_load_seconds_total", {"engine": "0"}) or 0) > 0
    assert seen == [stats.data]
    assert stats.reduce()["KV tokens loaded"] == 768
    assert not stats.is_empty()
    stats.reset()
    assert stats.is_empty()
