"""What faults of Valkey cost: time to the first token of what is in no cache, and requests lost.

`make bench-faults`: one service of two engines, an LMCache server beside each and a Valkey behind them. An engine is
asked what nobody has asked before, just before each fault and while it lasts: all of it is computed, so what the fault
costs shows. Short requests go through the router all the time. The faults come by turns, and one of the turns has none:
by what its two times differ, the machine differs.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from rich.table import Table

from e2e import counters
from e2e.bench.measure import PASSIVE, ask, first_token, prompt
from e2e.bench.trickle import Trickle
from e2e.cluster.console import console, step
from e2e.cluster.errors import ClusterError
from e2e.services import SMOL, Service, manifest
from e2e.stand import bring_up
from e2e.valkey import CHUNK, CLI, FAULTS, Fault, await_stored, in_valkey, keys
from llmcache_operator.core.exposition import series, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from e2e.kube import Json, Kube

NAME = "faults"
START_SECONDS = 1200.0
NAMED_SECONDS, BACK_SECONDS = 90.0, 180.0
WORDS = 260
"""Some 1,000 tokens: a fault that holds for less than a minute is long enough to measure."""


NOTHING = Fault("Available", lambda _: contextlib.nullcontext())
CASES = {"has no fault": NOTHING} | FAULTS


@dataclass(frozen=True)
class Found:
    """What one fault did. Times in seconds; `kept`: how much of an older prefix the other engine then took."""

    before: Sequence[float]
    during: Sequence[float]
    named: float
    back: float
    kept: float
    answered: int
    lost: int
    twice: int


def main() -> None:
    """Run it; exit status 1 where a request was lost or something went wrong."""
    parser = argparse.ArgumentParser(prog="make bench-faults", description=__doc__)
    parser.add_argument("--name", default="dev", help="which local cluster (default: dev)")
    parser.add_argument("--turns", type=int, default=3, help="how often each fault comes (default: 3)")
    parser.add_argument("--prompts", type=int, default=5, help="prompts before and during each (default: 5)")
    flags = parser.parse_args()
    found: dict[str, list[Found]] = {name: [] for name in CASES}
    well = True
    try:
        stand = bring_up(flags.name, ("--scrape-interval", "3", "--status-interval", "3"))
        for name, one in run(stand.kube, flags.turns, flags.prompts):
            found[name].append(one)
            console.print(f"  first token {' to '.join(_cost(one)[:2])} s; told after {one.named:.0f} s")
            well = well and not (one.lost or one.twice)
    except (ClusterError, TimeoutError, LookupError) as error:
        console.print(f"[red]error:[/red] {error}")
        well = False
    for made in tables({name: together(turns) for name, turns in found.items() if turns}):
        console.print(made)
    sys.exit(not well)


def run(kube: Kube, turns: int, prompts: int) -> Iterator[tuple[str, Found]]:
    """Yield what each fault did, by its name; the service is gone afterwards."""
    service = Service(kube, NAME)
    kube.apply(service_manifest())
    try:
        service.wait("Ready", "True", seconds=START_SECONDS)
        service.wait("L2Ready", "True", seconds=60)
        for engine in service.engines():
            ask(service, engine, prompt(WORDS))
        for turn in range(1, turns + 1):
            for name, fault in CASES.items():
                with step(f"{turn} of {turns}: Valkey {name}"):
                    found = endure(service, fault, prompts)
                yield name, found
    finally:
        kube.run("delete", "llmcs", NAME, "--ignore-not-found")


def service_manifest() -> Json:
    """Return two engines with SmolLM2, a server beside each and a Valkey behind them."""
    return manifest(
        NAME,
        model={"uri": SMOL, "revision": "1"},
        engine={"replicas": 2, "kvCacheMemory": "192Mi", "env": PASSIVE},
        cache={"topology": "PerEngine", "memory": "1Gi", "l2": {"valkey": {"managed": {"memory": "512Mi"}}}},
    )


def endure(service: Service, fault: Fault, prompts: int) -> Found:
    """Inject one fault, measure, undo it, and see what became of a prefix that was in Valkey before."""
    one, other = service.engines()
    # Of a Valkey that is full and evicts, the number of keys does not tell what was stored.
    in_valkey(service, f"{CLI} flushall")
    text, before = prompt(WORDS), keys(service)
    tokens = ask(service, one, text).tokens.total
    await_stored(service, before, tokens)
    served = successes(service)
    said = "True" if fault is NOTHING else "False"
    with Trickle(service) as trickle:
        well = first_tokens(service, one, prompts)
        begin = time.monotonic()
        with fault.inject(service):
            service.wait("L2Ready", said, fault.reason, seconds=NAMED_SECONDS)
            named = time.monotonic() - begin
            during = first_tokens(service, one, prompts)
            # It held all the time.
            service.wait("L2Ready", said, fault.reason, seconds=1)
        begin = time.monotonic()
        service.wait("L2Ready", "True", seconds=BACK_SECONDS)
        back = time.monotonic() - begin
    twice = successes(service) - served - trickle.answered - 2 * prompts
    kept = ask(service, other, text).tokens.server / (tokens // CHUNK * CHUNK)
    return Found(well, during, named, back, kept, trickle.answered, len(trickle.lost), twice)


def first_tokens(service: Service, engine: str, prompts: int) -> list[float]:
    """Return the seconds for prompts that no one has seen."""
    return [first_token(service, engine, prompt(WORDS)) for _ in range(prompts)]


def successes(service: Service) -> int:
    """Return how many requests the engines have answered so far."""
    name = "vllm:request_success_total"
    texts = (service.kube.raw(engine, counters.ENGINE_PORT, "/metrics") for engine in service.engines())
    return int(sum(total(series(text, [name]), name) for text in texts))


def together(turns: Sequence[Found]) -> Found:
    """Return all turns as one: of what was waited for the longest, of what was kept the least."""
    return Found(
        before=list(chain.from_iterable(turn.before for turn in turns)),
        during=list(chain.from_iterable(turn.during for turn in turns)),
        named=max(turn.named for turn in turns),
        back=max(turn.back for turn in turns),
        kept=min(turn.kept for turn in turns),
        answered=sum(turn.answered for turn in turns),
        lost=sum(turn.lost for turn in turns),
        twice=sum(turn.twice for turn in turns),
    )


def tables(found: Mapping[str, Found]) -> Iterator[Table]:
    """Yield a table of what the faults cost, and one of what was told and what became of the cache."""
    title = "Time to the first token of some 1,000 tokens that are in no cache: median, least and most, in seconds"
    yield _table(title, ("Valkey", "before", "during", "ratio"), {name: _cost(one) for name, one in found.items()})
    columns = ("Valkey", "L2Ready says", "after, s", "well after, s", "prefix then", "answered", "lost", "twice")
    yield _table("What was told, and lost", columns, {name: _told(name, one) for name, one in found.items()})


def _table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Table:
    made = Table(*columns, title=title)
    for name, row in rows.items():
        made.add_row(name, *row)
    return made


def _cost(found: Found) -> tuple[str, str, str]:
    before, during = statistics.median(found.before), statistics.median(found.during)
    return spread(found.before), spread(found.during), f"{during / before:.2f}"


def _told(name: str, found: Found) -> tuple[str, ...]:
    counts = (found.answered, found.lost, found.twice)
    return CASES[name].reason, f"{found.named:.0f}", f"{found.back:.0f}", f"{found.kept:.0%}", *map(str, counts)


def spread(seconds: Sequence[float]) -> str:
    """Return the median and, in brackets, the least and the most."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"


if __name__ == "__main__":
    main()
