"""What faults of Valkey cost: time to the first token of what is in no cache, and requests lost.

`make bench-faults`: one service of two engines, an LMCache server beside each and a Valkey behind them. An engine is
asked what nobody has asked before, just before each fault and while it lasts: all of it is computed, so what the fault
costs shows. Short requests go through the router all the time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from e2e import counters
from e2e.bench.measure import PASSIVE, ask, first_token, prompt
from e2e.bench.trickle import Trickle
from e2e.cluster.console import console, step
from e2e.cluster.errors import ClusterError
from e2e.services import SMOL, Service, manifest
from e2e.stand import bring_up
from e2e.valkey import CHUNK, CLI, FAULTS, await_stored, in_valkey, keys
from llmcache_operator.core.exposition import series, total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.kube import Json, Kube
    from e2e.valkey import Fault

NAME = "faults"
START_SECONDS = 1200.0
NAMED_SECONDS, BACK_SECONDS = 90.0, 180.0
WORDS = 260
"""Some 1,000 tokens: a fault that holds for less than a minute is long enough to measure."""


@dataclass(frozen=True)
class Found:
    """What one fault did. Times in seconds; `kept`: how much of an older prefix the other engine then took."""

    before: float
    during: float
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
    parser.add_argument("--rounds", type=int, default=5, help="prompts before and during each fault (default: 5)")
    flags = parser.parse_args()
    made, well = table(), True
    try:
        stand = bring_up(flags.name, ("--scrape-interval", "3", "--status-interval", "3"))
        for name, found in run(stand.kube, flags.rounds):
            made.add_row(*row(name, found))
            well = well and not (found.lost or found.twice)
    except (ClusterError, TimeoutError, LookupError) as error:
        console.print(f"[red]error:[/red] {error}")
        well = False
    finally:
        console.print(made)
    sys.exit(not well)


def run(kube: Kube, rounds: int) -> Iterator[tuple[str, Found]]:
    """Yield what each fault did, by its name; the service is gone afterwards."""
    service = Service(kube, NAME)
    kube.apply(service_manifest())
    try:
        service.wait("Ready", "True", seconds=START_SECONDS)
        service.wait("L2Ready", "True", seconds=60)
        for engine in service.engines():
            ask(service, engine, prompt(WORDS))
        for name, fault in FAULTS.items():
            with step(f"Valkey {name}"):
                found = endure(service, fault, rounds)
            console.print(f"  {found}")
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


def endure(service: Service, fault: Fault, rounds: int) -> Found:
    """Inject one fault, measure, undo it, and see what became of a prefix that was in Valkey before."""
    one, other = service.engines()
    # Of a Valkey that is full and evicts, the number of keys does not tell what was stored.
    in_valkey(service, f"{CLI} flushall")
    text, before = prompt(WORDS), keys(service)
    tokens = ask(service, one, text).tokens.total
    await_stored(service, before, tokens)
    served = successes(service)
    with Trickle(service) as trickle:
        well = first_tokens(service, one, rounds)
        begin = time.monotonic()
        with fault.inject(service):
            service.wait("L2Ready", "False", fault.reason, seconds=NAMED_SECONDS)
            named = time.monotonic() - begin
            during = first_tokens(service, one, rounds)
            # It held all the time.
            service.wait("L2Ready", "False", fault.reason, seconds=1)
        begin = time.monotonic()
        service.wait("L2Ready", "True", seconds=BACK_SECONDS)
        back = time.monotonic() - begin
    twice = successes(service) - served - trickle.answered - 2 * rounds
    kept = ask(service, other, text).tokens.server / (tokens // CHUNK * CHUNK)
    return Found(well, during, named, back, kept, trickle.answered, len(trickle.lost), twice)


def first_tokens(service: Service, engine: str, rounds: int) -> float:
    """Return the median seconds for prompts that no one has seen."""
    return statistics.median(first_token(service, engine, prompt(WORDS)) for _ in range(rounds))


def successes(service: Service) -> int:
    """Return how many requests the engines have answered so far."""
    name = "vllm:request_success_total"
    texts = (service.kube.raw(engine, counters.ENGINE_PORT, "/metrics") for engine in service.engines())
    return int(sum(total(series(text, [name]), name) for text in texts))


def table() -> Table:
    """Return the empty table."""
    made = Table(title="Faults of Valkey; time to the first token of some 1,000 tokens that are in no cache, medians")
    for column in ("Valkey", "named", "before, s", "during, s", "ratio", "named after, s"):
        made.add_column(column)
    for column in ("well after, s", "prefix taken after", "requests", "lost", "counted twice"):
        made.add_column(column)
    return made


def row(name: str, found: Found) -> tuple[str, ...]:
    """Return a row of it."""
    times = (f"{found.before:.2f}", f"{found.during:.2f}", f"{found.during / found.before:.2f}")
    ends = (f"{found.named:.0f}", f"{found.back:.0f}", f"{found.kept:.0%}")
    return name, FAULTS[name].reason, *times, *ends, *map(str, (found.answered, found.lost, found.twice))


if __name__ == "__main__":
    main()
