"""The dashboard is what its source makes, and asks for nothing that nobody exposes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from e2e.monitoring import dashboard, promtool
from tests.monitoring.names import named, samples

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

BOARD: Json = json.loads(dashboard.FILE.read_text())
EXPRESSIONS = promtool.expressions()


def test_the_file_is_generated() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run `make generate`"


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_of_a_panel_is_exposed_by_somebody(where: str) -> None:
    found = named(EXPRESSIONS[where])

    assert found
    assert found <= samples()


def test_no_variable_is_left_unknown() -> None:
    assert not [where for where, expression in EXPRESSIONS.items() if "$" in expression]


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert max(x for x, _ in cells) < 24
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells


def test_every_panel_says_what_it_shows() -> None:
    panels = [panel for panel in BOARD["panels"] if panel["type"] != "row"]

    assert all(panel["description"] and panel["targets"] for panel in panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
