"""Pictures of what `tests.bench.router` measured, in colours that colour-blind readers tell apart (Okabe and Ito's)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from tests.bench.router_cpu import Cost
from tests.bench.router_policy import RATIOS, USERS, Figure

OURS, OTHERS = "#0072B2", "#999999"
LINES = {
    "blind": ("#D55E00", "s", "--"),
    "dear": ("#E69F00", "^", ":"),
    "priced": ("#0072B2", "o", "-"),
    "clairvoyant": ("#009E73", "D", "-."),
}
LABELS = {
    "blind": "shared tier not known",
    "dear": "known, priced like computing",
    "priced": "known, priced as learned",
    "clairvoyant": "the future known, too",
}
CLIP = 600.0
"""Milliseconds at which the axis ends: some policies send everything to one engine and wait for seconds."""


def save(name: str, folder: Path) -> Path:
    """Write the current picture, small. Gives its path."""
    path = folder / f"{name}.png"
    plt.tight_layout(rect=(0, 0, 1, 0.96))
    plt.savefig(path, dpi=110)
    plt.close()
    return path


def policies(figures: Sequence[Figure], folder: Path) -> Path:
    """Bars of hit ratio and mean time to first token, roomy and tight, the fastest under pressure on top."""
    tight = sorted((f for f in figures if f.column == "tight"), key=lambda f: f.ttft, reverse=True)
    rows = [f.row for f in tight]
    figure, axes = plt.subplots(1, 2, figsize=(11, 6), sharey=True)
    for offset, (column, hatch) in zip((0.2, -0.2), (("roomy", ""), ("tight", "///")), strict=True):
        found = {f.row: f for f in figures if f.column == column}
        places = [i + offset for i in range(len(rows))]
        colours = [OURS if "this router" in row else OTHERS for row in rows]
        style = {"height": 0.38, "color": colours, "hatch": hatch, "edgecolor": "white"}
        axes[0].barh(places, [found[r].hit for r in rows], xerr=[found[r].hit_spread for r in rows], **style)
        axes[1].barh(places, [min(found[r].ttft, CLIP) for r in rows], **style)
        for place, row in zip(places, rows, strict=True):
            label = f"{found[row].ttft:,.0f}"
            axes[1].text(min(found[row].ttft, CLIP) + 8, place, label, va="center", fontsize=8)
    axes[0].set_yticks(range(len(rows)), [row.replace(", production", ",\nproduction") for row in rows], fontsize=9)
    axes[0].set_xlabel("prompt tokens found in the engine's cache (%)")
    axes[1].set_xlabel(f"mean time to first token (ms; axis ends at {CLIP:.0f})")
    axes[1].set_xlim(0, CLIP * 1.16)
    key = [plt.Rectangle((0, 0), 1, 1, facecolor=OTHERS, edgecolor="white", hatch=h) for h in ("", "///")]
    figure.legend(key, ["roomy: 60,000 tokens an engine", "tight: 30,000"], loc="upper center", ncols=2, frameon=False)
    return save("router-policies", folder)


def pricing(figures: Sequence[Figure], folder: Path) -> Path:
    """Lines of mean time to first token over load, and over what a reload costs."""
    _, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    for row, (colour, marker, line) in LINES.items():
        found = {f.column: f for f in figures if f.row == row}
        for axis, places, columns in (
            (axes[0], USERS, [f"{u} users" for u in USERS]),
            (axes[1], RATIOS, [f"ratio {r}" for r in RATIOS]),
        ):
            heights = [found[c].ttft for c in columns]
            spread = [found[c].ttft_spread for c in columns]
            style = {"color": colour, "marker": marker, "linestyle": line, "capsize": 3}
            axis.errorbar(places, heights, yerr=spread, label=LABELS[row], **style)
    axes[0].set_xlabel("users at the same time, four engines")
    axes[1].set_xlabel("cost of a reloaded token / cost of a computed one")
    axes[0].set_title("over load, ratio 0.33", fontsize=10)
    axes[1].set_title("over the cost of a reload, 48 users", fontsize=10)
    for axis in axes:
        axis.set_ylabel("mean time to first token (ms)")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend()
    return save("router-pricing", folder)


def cpu(costs: Sequence[Cost], folder: Path) -> Path:
    """Bars of CPU for each kind of load."""
    kinds = list(dict.fromkeys(c.kind for c in costs))
    _, axes = plt.subplots(1, len(kinds), figsize=(11, 3))
    for axis, kind in zip(axes, kinds, strict=True):
        found = [c for c in costs if c.kind == kind][::-1]
        colours = [OURS if c.router.startswith("ours") else OTHERS for c in found]
        bars = axis.barh([c.router for c in found], [c.microseconds for c in found], color=colours)
        axis.bar_label(bars, [f"{c.microseconds:.0f} (x {c.ratio:.2f})" for c in found], padding=3, fontsize=8)
        axis.set_xlim(0, max(c.microseconds for c in found) * 1.45)
        axis.set_xlabel(f"CPU of a {kind} (µs)")
        axis.tick_params(axis="y", labelleft=axis is axes[0])
    return save("router-cpu", folder)
