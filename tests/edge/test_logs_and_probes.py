"""What people and machines see of the process: log lines, probes, metrics."""

from __future__ import annotations

import json
import logging
import sys

import httpx
import pytest

from llmcache_operator.edge import health
from llmcache_operator.edge.logs import JsonFormatter
from llmcache_operator.edge.metrics import Metrics
from tests.ports import free_port


def record(message: str, logger: str = "llmcache_operator.test", **extra: object) -> logging.LogRecord:
    return logging.getLogger(logger).makeRecord(logger, logging.INFO, "file", 1, message, (), None, extra=extra)


def test_a_line_is_json_and_names_the_service() -> None:
    about = {"namespace": "ns", "name": "chat", "uid": "u", "generation": 3}

    line = json.loads(JsonFormatter().format(record('created "x"\nand more', about=about)))

    assert line.items() >= {"namespace": "ns", "name": "chat", "uid": "u", "generation": 3}.items()
    assert line["message"] == 'created "x"\nand more'
    assert line["level"] == "info"


def test_a_line_about_no_service_has_no_service_fields() -> None:
    assert json.loads(JsonFormatter().format(record("leading"))).keys() == {"time", "level", "logger", "message"}


@pytest.mark.parametrize(("logger", "told"), [("llmcache_operator.x", "KeyError: 'oops'"), ("kopf.x", "")])
def test_a_bug_comes_with_its_traceback_on_the_same_line_and_trouble_of_libraries_without(
    logger: str, told: str
) -> None:
    made = record("a bug", logger)
    try:
        dict[str, int]()["oops"]
    except KeyError:
        made.exc_info = sys.exc_info()

    text = JsonFormatter().format(made)

    assert "\n" not in text
    assert json.loads(text).get("traceback", "").endswith(told)
    assert ("traceback" in json.loads(text)) is bool(told)


async def test_probes_tell_alive_from_ready() -> None:
    port, why = free_port(), ["the API server has not answered yet"]
    async with health.serving(port, Metrics(), lambda: why[0]), httpx.AsyncClient(trust_env=False) as http:
        base = f"http://127.0.0.1:{port}"
        assert (await http.get(f"{base}/healthz")).status_code == 200
        unready = await http.get(f"{base}/readyz")
        why[0] = ""
        ready = await http.get(f"{base}/readyz")

    assert (unready.status_code, unready.text) == (503, "the API server has not answered yet\n")
    assert (ready.status_code, ready.text) == (200, "ok\n")


async def test_metrics_are_in_the_prometheus_format() -> None:
    metrics, port = Metrics(), free_port()
    metrics.applies.labels("Deployment", "changed").inc()
    async with health.serving(port, metrics, lambda: ""), httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")

    assert 'llmcache_operator_applies_total{kind="Deployment",result="changed"} 1.0' in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_taken_port_is_an_error_at_start() -> None:
    port = free_port()
    async with health.serving(port, Metrics(), lambda: ""):
        with pytest.raises(OSError, match=str(port)):
            async with health.serving(port, Metrics(), lambda: ""):
                pass
