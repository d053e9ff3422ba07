"""The picture of the numbers."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from matplotlib import ticker
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_COLD, _OTHER = "#b0413e", "#3b6ea5"


def draw(numbers: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Draw seconds by row: the median as a bar, each measurement as a dot. Logarithmic, since ratios matter."""
    rows = list(numbers)
    medians = [statistics.median(one["seconds"] for one in numbers[row]) for row in rows]
    figure = Figure(figsize=(8, 0.7 * len(rows) + 1.6), layout="constrained")
    axes = figure.subplots()
    axes.barh(rows, medians, color=[_COLD if row == "cold" else _OTHER for row in rows], height=0.6)
    for at, row in enumerate(rows):
        axes.plot([one["seconds"] for one in numbers[row]], [at] * len(numbers[row]), "k.", markersize=5)
        axes.annotate(f"{medians[at]:.2f} s", (medians[at], at), (8, 9), textcoords="offset points", fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(right=max(medians) * 1.8)
    axes.invert_yaxis()
    axes.set_xlabel("seconds to the first token of a prompt of 6,913 tokens")
    axes.set_title("Where a prompt's KV comes from (SmolLM2-135M on CPUs)")
    figure.savefig(path, dpi=120)
