"""operator/docs/causes.md, from what the runs found."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.causes.cause import BAR_SECONDS, Result
from e2e.causes.runs import Healthy, HitRate

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "operator/docs/causes.md"
FOUND = ROOT / "build/causes"
HEAD = f"""\
# Causes of silent zero or bad hits

What users of a shared KV cache complain about most is a cache that looks configured and healthy and hits nothing. Here
each known cause is injected into a service under load, with the operator at its default intervals (a scrape every 15
seconds), and timed: how long until the resource names it, and how long after its cure until the name is gone. The bar
for both is {BAR_SECONDS:.0f} seconds, counted from when injection or cure is in place: the pod answers, the rollout is
over. [conditions.md](conditions.md) says what each reason means and what to do.

This page is written by `make causes`, which brings up a cluster of its own. The code is in `e2e/causes`.

*Real* engines are vLLM and LMCache on CPUs in that cluster. *Fake* ones speak the same metrics, `/v1/models`,
`/version` and `/status` behind pods that the operator finds at a real API server; they stand in for what a CPU can't do
(tensor parallelism, other versions, counters that stand still), and repeat the rest.
"""

NOT_REAL = """\
**The part with real engines has not been run to its end yet**: every row below is about fake ones.
"""


@dataclass(frozen=True)
class Found:
    """All that one stage found."""

    results: tuple[Result, ...] = ()
    healthy: tuple[Healthy, ...] = ()
    hit_rates: tuple[HitRate, ...] = ()

    def save(self, stage: str) -> None:
        """Keep it until the page is written."""
        FOUND.mkdir(parents=True, exist_ok=True)
        (FOUND / f"{stage}.json").write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, stage: str) -> Found:
        """Return what the last run of a stage found; nothing if there was none."""
        file = FOUND / f"{stage}.json"
        if not file.exists():
            return cls()
        data = json.loads(file.read_text())
        return cls(
            tuple(Result(**row) for row in data["results"]),
            tuple(Healthy(**row | {"alarms": tuple(row["alarms"])}) for row in data["healthy"]),
            tuple(HitRate(**row) for row in data["hit_rates"]),
        )

    def __add__(self, other: Found) -> Found:
        """Add what was found later: it takes the place of what was found of the same before."""
        return Found(
            tuple({(row.cause, row.engines): row for row in self.results + other.results}.values()),
            tuple({row.engines: row for row in self.healthy + other.healthy}.values()),
            tuple({row.engines: row for row in self.hit_rates + other.hit_rates}.values()),
        )


def page(found: Found) -> str:
    """Return the page."""
    real = any(result.engines == "real" for result in found.results)
    return "\n".join([HEAD, *([] if real else [NOT_REAL]), *_causes(found), *_healthy(found), *_hit_rates(found)])


def _causes(found: Found) -> Iterator[str]:
    held = sum(result.holds for result in found.results)
    yield f"## {held} of {len(found.results)} named and cleared within {BAR_SECONDS:.0f} s\n"
    yield "| cause | how it was injected | engines | named as | named after, s | cleared after, s |"
    yield "|---|---|---|---|---|---|"
    for result in found.results:
        named = result.reason if result.named is not None else f"**not**; it said {result.shown}"
        yield (
            f"| {result.cause} | {result.how} | {result.engines} | {result.condition}: {named} "
            f"| {seconds(result.named)} | {seconds(result.cleared)} |"
        )
    yield "\nWhat the messages said:\n"
    for result in found.results:
        if result.named is not None:
            yield f"* **{result.cause}** ({result.engines}): {result.message}"
    yield ""


def _healthy(found: Found) -> Iterator[str]:
    yield "## A healthy service raises no alarm, and is written to at most once a minute\n"
    yield "| engines | minutes | requests | false alarms | writes | least seconds between two | writes while idle |"
    yield "|---|---|---|---|---|---|---|"
    for run in found.healthy:
        alarms = ", ".join(run.alarms) or "none"
        idle = f"{run.idle_writes} in {run.idle_seconds / 60:.0f} min" if run.idle_seconds else "not measured"
        yield (
            f"| {run.engines} | {run.seconds / 60:.0f} | {run.requests} | {alarms} | {run.writes} "
            f"| {seconds(run.closest)} | {idle} |"
        )
    yield ""


def _hit_rates(found: Found) -> Iterator[str]:
    yield "## The hit rate agrees with what every answer said of itself\n"
    yield "The reference adds up `usage.prompt_tokens_details.cached_tokens` of every answer in the window.\n"
    yield "| engines | what happened | answers | `hitRatePercent` | counted from the answers, % | difference |"
    yield "|---|---|---|---|---|---|"
    for run in found.hit_rates:
        off = abs(run.shown - run.counted)
        yield f"| {run.engines} | {run.events} | {run.requests} | {run.shown} | {run.counted} | {off:.1f} |"
    yield ""


def seconds(value: float | None) -> str:
    """Return whole seconds for people."""
    return "—" if value is None else f"{value:.0f}"
