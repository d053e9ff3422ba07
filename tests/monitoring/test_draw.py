"""The picture of the dashboard: every panel, with data and without."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from e2e.monitoring.draw import Moment, _legend, _written, draw
from e2e.monitoring.promtool import expressions
from e2e.monitoring.query import Prometheus, Series

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = Moment("default", "chat", 1_800_000_000.0, 1_800_000_600.0)


@dataclass(frozen=True)
class Answers(Prometheus):
    """A Prometheus that knows the same few series for every question, and notes the questions."""

    known: tuple[Series, ...] = ()
    asked: list[str] = field(default_factory=list)

    def range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """See `Prometheus`."""
        self.asked.append(expression)
        return list(self.known)


def test_every_query_is_asked_and_the_picture_stays_small(tmp_path: Path) -> None:
    times = [MOMENT.start + second for second in range(0, 600, 10)]
    values = [float(number > 30) for number in range(60)]
    known = tuple(Series({"type": name}, times, values) for name in ("Ready", "Stalled"))
    server = Answers("", known)

    draw(server, MOMENT, tmp_path / "with.png")

    assert len(server.asked) == len(expressions())
    assert not [expression for expression in server.asked if "$" in expression]
    assert 10_000 < (tmp_path / "with.png").stat().st_size < 200_000


def test_a_dashboard_without_data_is_drawn_too(tmp_path: Path) -> None:
    draw(Answers(""), MOMENT, tmp_path / "without.png")

    with Image.open(tmp_path / "without.png") as picture:
        assert picture.width > 1000


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.714, "percentunit", "71%"),
        (0.0421, "s", "42.1 ms"),
        (1.5, "s", "1.5 s"),
        (1_843_200, "short", "1.84 Mil"),
        (1234, "reqps", "1.23 K req/s"),
        (0, "ops", "0 ops/s"),
    ],
)
def test_values_are_written_in_their_unit(value: float, unit: str, text: str) -> None:
    assert _written(value, unit) == text


def test_a_legend_is_filled_in() -> None:
    assert _legend("p95 {{expected}}", {"expected": "engine"}) == "p95 engine"
