"""Checks of deploy/monitoring by promtool: rules, their unit tests, and every expression of the dashboard."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from e2e.cluster import build
from e2e.cluster.shell import run
from e2e.cluster.versions import PROMETHEUS

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "deploy/monitoring"
RULES, TESTS, DASHBOARD = FOLDER / "rules.yaml", FOLDER / "rules_test.yaml", FOLDER / "dashboard.json"
# What Grafana fills in, as Prometheus could see it.
VARIABLES = {"$namespace": "default", "$llmcs": "chat", "$__rate_interval": "1m", "$__range": "1h"}


def check() -> None:
    """Raise ClusterError with promtool's words where anything is wrong."""
    promtool = str(build.ensure([PROMETHEUS])["promtool"])
    with tempfile.TemporaryDirectory() as folder:
        rules = write_rules(Path(folder) / RULES.name)
        shutil.copy(TESTS, folder)
        board = Path(folder) / "dashboard.yaml"
        board.write_text(json.dumps(_as_rules(expressions())))
        run([promtool, "check", "rules", "--lint-fatal", str(rules), str(board)], seconds=60)
        run([promtool, "test", "rules", str(Path(folder) / TESTS.name)], seconds=60)


def write_rules(path: Path) -> Path:
    """Write the rules of the PrometheusRule as a file that Prometheus reads."""
    path.write_text(json.dumps(yaml.safe_load(RULES.read_text())["spec"]))
    return path


def expressions() -> dict[str, str]:
    """Return every expression of the dashboard, variables filled in, by panel and query."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {
        f"{panel['title']}, {target['refId']}": filled_in(target["expr"])
        for panel in panels
        for target in panel.get("targets", ())
    }


def filled_in(expression: str, **more: str) -> str:
    """Put values in place of the dashboard's variables."""
    for name, value in (VARIABLES | {f"${name}": value for name, value in more.items()}).items():
        expression = expression.replace(name, value)
    return expression


def _as_rules(found: dict[str, str]) -> dict[str, Any]:
    """Make a rule of each expression, named after its panel, so that promtool names it."""
    return {"groups": [{"name": "dashboard", "rules": list(_rules(found))}]}


def _rules(found: dict[str, str]) -> Iterator[dict[str, Any]]:
    for number, (where, expression) in enumerate(found.items()):
        yield {"record": f"dashboard:panel_{number}", "expr": expression, "labels": {"panel": where}}
