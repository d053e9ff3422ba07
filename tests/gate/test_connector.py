"""What the connector that the gate leaves for engines reports, with a stand-in for LMCache's, which engines have."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from llmcache_runtime.gate import leave_connector

UPSTREAM = "vllm.distributed.kv_transfer.kv_connector.v1"
Report = tuple[set[str] | None, set[str] | None]


class Upstream:
    """Reports as lmcache 0.5.6 does while its server is healthy: who is over counts as stored."""

    def __init__(self, loading: dict[str, bool]) -> None:
        self.loading = loading
        self.worker_adapter = SimpleNamespace(retrieve_futures=dict(loading))

    def get_finished(self, finished_req_ids: set[str]) -> Report:
        loaded = {request for request, done in self.loading.items() if done}
        for request in loaded:
            del self.loading[request], self.worker_adapter.retrieve_futures[request]
        return set(finished_req_ids), loaded


@pytest.fixture
def connector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the file that the gate leaves, as an engine does."""
    parent, module = ModuleType(UPSTREAM), ModuleType(f"{UPSTREAM}.lmcache_mp_connector")
    module.LMCacheMPConnector = parent.lmcache_mp_connector = Upstream  # type: ignore[attr-defined]
    parent.lmcache_mp_connector = module  # type: ignore[attr-defined]
    for name in (
        "vllm",
        "vllm.distributed",
        "vllm.distributed.kv_transfer",
        "vllm.distributed.kv_transfer.kv_connector",
    ):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, UPSTREAM, parent)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    leave_connector(tmp_path)
    spec = importlib.util.spec_from_file_location("llmcache_connector", tmp_path / "llmcache_connector.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.LMCacheMPConnector


def test_a_request_whose_client_left_while_its_kv_was_loaded_is_reported_once(connector: Any) -> None:
    made = connector({"left": True})

    assert made.get_finished({"left"}) == (set(), {"left"})


def test_its_blocks_are_not_freed_while_they_are_still_written_to(connector: Any) -> None:
    made = connector({"left": False})
    assert made.get_finished({"left"}) == (set(), set())

    made.loading["left"] = True

    assert made.get_finished(set()) == (set(), {"left"})


def test_requests_that_load_nothing_are_reported_as_ever(connector: Any) -> None:
    assert connector({}).get_finished({"done"}) == ({"done"}, set())
    assert connector({"other": False}).get_finished({"done"}) == ({"done"}, set())
