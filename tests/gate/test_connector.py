"""What the connector that the gate leaves for engines reports, with a stand-in for LMCache's, which engines have."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from llmcache_runtime.gate import leave_connector

VLLM = "vllm.distributed.kv_transfer.kv_connector.v1"
Report = tuple[set[str] | None, set[str] | None]


class Upstream:
    """Reports as lmcache 0.5.6 does: who is over counts as stored, and who is loaded counts as loaded."""

    def __init__(self, loading: dict[str, bool], role: object, kv_cache_config: object = None) -> None:
        self.loading = loading
        self.worker_adapter = SimpleNamespace(retrieve_futures=dict(loading))

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, None]:
        return True, None

    def update_connector_output(self, connector_output: Any) -> None:
        connector_output.seen = True

    def get_finished(self, finished_req_ids: set[str]) -> Report:
        loaded = {request for request, done in self.loading.items() if done}
        for request in loaded:
            del self.loading[request], self.worker_adapter.retrieve_futures[request]
        return set(finished_req_ids), loaded


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


@pytest.fixture
def connector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the file that the gate leaves, as an engine does."""
    parent, module = ModuleType(VLLM), ModuleType(f"{VLLM}.lmcache_mp_connector")
    module.LMCacheMPConnector = Upstream  # type: ignore[attr-defined]
    parent.lmcache_mp_connector = module  # type: ignore[attr-defined]
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
    scheduler = Scheduler(connector({}, "scheduler"), "left", "other")
    scheduler.end("left")

    scheduler.update(set(), {"left"})
    scheduler.update({"left"}, set())

    assert scheduler.requests == {"other": False}


def test_both_reports_at_once_end_it_once_too(connector: Any) -> None:
    scheduler = Scheduler(connector({}, "scheduler"), "left")
    scheduler.end("left")

    scheduler.update({"left"}, {"left"})

    assert scheduler.requests == {}


def test_a_request_that_loaded_and_then_ran_ends_with_its_stores(connector: Any) -> None:
    scheduler = Scheduler(connector({}, "scheduler"), "ran")
    scheduler.update(set(), {"ran"})
    assert scheduler.requests == {"ran": False}

    scheduler.end("ran")
    scheduler.update({"ran"}, set())

    assert scheduler.requests == {}


def test_blocks_are_not_freed_while_they_are_still_written_to(connector: Any) -> None:
    worker = connector({"left": False}, "worker")
    assert worker.get_finished({"left", "done"}) == ({"done"}, set())

    worker.loading["left"] = True

    assert worker.get_finished(set()) == ({"left"}, {"left"})
    assert worker.get_finished(set()) == (set(), set())
