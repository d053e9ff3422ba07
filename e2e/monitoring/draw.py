"""Draws the dashboard's own panels where they lie on its grid, from the data of a running Prometheus.

It stands in for Grafana, which is not run here: layout, queries, units, colours and legends are read from
dashboard.json, the pictures are matplotlib's.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from PIL import Image

from e2e.monitoring.promtool import DASHBOARD, filled_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

    from e2e.monitoring.query import Prometheus, Series

    Json = dict[str, Any]

COLUMN, LINE = 0.62, 0.36
"""Inches of a column and a line of the grid."""
PALETTE = ("#56a64b", "#f2cc0c", "#8f3bb8", "#e02f44", "#1f60c4", "#ff780a", "#37872d", "#5794f2")
NAMED = {"orange": "#ff780a", "green": "#56a64b", "blue": "#3274d9", "red": "#e02f44", "gray": "#9aa0a6"}
STATES = {1.0: NAMED["green"], 0.0: NAMED["gray"], -1.0: NAMED["red"]}
STEPS = 240


@dataclass(frozen=True)
class Moment:
    """Which service, and from when to when, in Unix time."""

    namespace: str
    service: str
    start: float
    end: float

    @property
    def step(self) -> float:
        """Seconds between two samples."""
        return max(1.0, (self.end - self.start) / STEPS)


def draw(prometheus: Prometheus, moment: Moment, path: Path) -> None:
    """Write the dashboard as a PNG of 64 colours. Raises ClusterError where a query is refused."""
    mpl.rcParams.update({"font.size": 7.5, "axes.titlesize": 8.5, "font.family": "DejaVu Sans"})
    board: Json = json.loads(DASHBOARD.read_text())
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = Figure(figsize=(24 * COLUMN, lines * LINE), facecolor="#f4f5f5")
    for panel in board["panels"]:
        _draw_panel(figure, panel, lines, prometheus, moment)
    raw = BytesIO()
    figure.savefig(raw, format="png", dpi=80)
    Image.open(raw).convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def _draw_panel(figure: Figure, panel: Json, lines: int, prometheus: Prometheus, moment: Moment) -> None:
    grid = panel["gridPos"]
    if panel["type"] == "row":
        top = 1 - (grid["y"] + 0.75) / lines
        figure.text(0.01, top, panel["title"], fontsize=10, fontweight="bold", color="#24292e")
        return
    left, bottom, top = (1.1, 1.6, 0.75) if grid["h"] > 4 else (0.2, 0.2, 0.6)
    if panel["type"] == "state-timeline":
        left = 2.6
    box = (
        (grid["x"] + left) / 24,
        1 - (grid["y"] + grid["h"] - bottom) / lines,
        (grid["w"] - left - 0.25) / 24,
        (grid["h"] - bottom - top) / lines,
    )
    axes = figure.add_axes(box)
    axes.set_title(panel["title"], loc="left", fontweight="bold", color="#24292e")
    found = _series(panel, prometheus, moment)
    _KINDS[panel["type"]](axes, panel, found)
    if panel["type"] in ("timeseries", "state-timeline"):
        begin, end = (datetime.fromtimestamp(at, UTC) for at in (moment.start, moment.end))
        axes.set_xlim(begin, end)  # type: ignore[arg-type]  # matplotlib converts dates
        axes.set_xticks([begin + (end - begin) * part / 4 for part in range(5)])  # type: ignore[arg-type]
        axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))  # type: ignore[no-untyped-call]


def _series(panel: Json, prometheus: Prometheus, moment: Moment) -> list[tuple[str, Series]]:
    """Return the data of all queries of a panel, each with the name that the legend gives it."""
    names = {"namespace": moment.namespace, "llmcs": moment.service, "__range": f"{moment.end - moment.start:.0f}s"}
    return [
        (_legend(target["legendFormat"], series.labels), series)
        for target in panel["targets"]
        for series in prometheus.range(filled_in(target["expr"], **names), moment.start, moment.end, moment.step)
    ]


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template)


def _draw_stat(axes: Axes, panel: Json, found: list[tuple[str, Series]]) -> None:
    axes.axis("off")
    axes.set_facecolor("white")
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    text = "  ".join(_written(series.values[-1], unit) for _, series in found) or "No data"
    axes.text(0.5, 0.55, text, ha="center", va="center", fontsize=20, color="#1a7f37")
    axes.text(0.5, 0.1, "    ".join(name for name, _ in found), ha="center", va="center", color="#57606a")


def _draw_lines(axes: Axes, panel: Json, found: list[tuple[str, Series]]) -> None:
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    fixed = _fixed_colours(panel)
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    base: dict[float, float] = {}
    for number, (name, series) in enumerate(found):
        colour = fixed.get(name, PALETTE[number % len(PALETTE)])
        lower = [base.get(at, 0.0) if stacked else 0.0 for at in series.times]
        upper = [low + value for low, value in zip(lower, series.values, strict=True)]
        base |= dict(zip(series.times, upper, strict=True)) if stacked else {}
        times = [datetime.fromtimestamp(at, UTC) for at in series.times]
        if stacked:
            opacity = custom["fillOpacity"] / 100
            axes.fill_between(times, lower, upper, color=colour, alpha=opacity, linewidth=0)  # type: ignore[arg-type]
        axes.plot(times, upper, color=colour, linewidth=1.2, label=name or "value")  # type: ignore[arg-type]
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: _written(value, unit))
    axes.grid(color="#e6e8ea", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if found:
        columns = min(5, len(found))
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.1), ncols=columns, frameon=False, fontsize=6.5)
    else:
        axes.text(0.5, 0.5, "No data", ha="center", transform=axes.transAxes, color="#57606a")


def _fixed_colours(panel: Json) -> dict[str, str]:
    return {
        override["matcher"]["options"]: NAMED[entry["value"]["fixedColor"]]
        for override in panel["fieldConfig"]["overrides"]
        for entry in override["properties"]
        if entry["id"] == "color"
    }


def _draw_states(axes: Axes, _panel: Json, found: list[tuple[str, Series]]) -> None:
    for row, (_, series) in enumerate(found):
        for value, run in groupby(zip(series.times, series.values, strict=True), key=itemgetter(1)):
            times = [at for at, _ in run]
            begin, end = (datetime.fromtimestamp(at, UTC) for at in (times[0], times[-1] + _step(series)))
            axes.barh(row, end - begin, left=begin, height=0.8, color=STATES[value])  # type: ignore[arg-type]
    axes.set_yticks(range(len(found)), [name for name, _ in found])
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)


def _step(series: Series) -> float:
    return min((after - at for at, after in pairwise(series.times)), default=1.0)


def _draw_table(axes: Axes, _panel: Json, found: list[tuple[str, Series]]) -> None:
    axes.axis("off")
    end = max((series.times[-1] for _, series in found), default=0.0)
    rows = sorted(name for name, series in found if series.times[-1] == end)
    axes.text(0, 1, "\n".join(rows) or "No data", va="top", linespacing=1.5, color="#24292e")


def _written(value: float, unit: str) -> str:
    """Write a value as Grafana does."""
    if unit == "percentunit":
        return f"{100 * value:.0f}%"
    if unit == "s":
        return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else f"{1000 * value:.3g} ms"
    suffix = {"ops": " ops/s", "reqps": " req/s"}.get(unit, "")
    for limit, letter in ((1e6, " Mil"), (1e3, " K")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}{suffix}"
    return f"{value:.3g}{suffix}"


_KINDS = {
    "stat": _draw_stat,
    "timeseries": _draw_lines,
    "state-timeline": _draw_states,
    "table": _draw_table,
}
