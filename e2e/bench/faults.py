"""What faults of Valkey cost: time to the first token beside an engine without any cache, and requests lost.

`make bench-faults`: one service of two engines, an LMCache server beside each and a Valkey behind them, and one engine
pod without LMCache. During each fault, and once without, one engine of each kind is asked by turns what nobody has
asked before. Short requests go through the router all the time, so to the engines with LMCache only.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from e2e import counters
from e2e.bench.measure import ask, first_token, prompt
from e2e.bench.trickle import Trickle
from e2e.cluster.console import console, step
from e2e.cluster.errors import ClusterError
from e2e.kube import condition, wait_until
from e2e.services import Service, manifest
from e2e.stand import bring_up
from e2e.valkey import CHUNK, FAULTS, await_stored, keys
from llmcache_operator.core.exposition import series, total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.kube import Json, Kube
    from e2e.valkey import Fault

NAME, PLAIN = "faults", "no-cache"
START_SECONDS = 1200.0
NAMED_SECONDS, BACK_SECONDS = 90.0, 180.0
WORDS = 260
"""Some 1,000 tokens: a fault that holds for a minute only is long enough to measure."""


@dataclass(frozen=True)
class Pace:
    """Median seconds to the first token: of an engine with LMCache, and of the one without."""

    cached: float
    plain: float


@dataclass(frozen=True)
class Found:
    """What one fault did. `named`, `back`: seconds; `kept`: how much of an older prefix the other engine then took."""

    named: float
    back: float
    kept: float
    answered: int
    lost: int
    twice: int


def main() -> None:
    """Run it; what goes wrong becomes a message and exit status 1."""
    parser = argparse.ArgumentParser(prog="make bench-faults", description=__doc__)
    parser.add_argument("--name", default="dev", help="which local cluster (default: dev)")
    parser.add_argument("--rounds", type=int, default=5, help="prompts to each engine during a fault (default: 5)")
    flags = parser.parse_args()
    made, well = table(), True
    try:
        stand = bring_up(flags.name, ("--scrape-interval", "3", "--status-interval", "3"))
        for name, reason, pace, found in run(stand.kube, flags.rounds):
            made.add_row(*row(name, reason, pace, found))
            well = well and not (found.lost or found.twice)
    except (ClusterError, TimeoutError, LookupError) as error:
        console.print(f"[red]error:[/red] {error}")
        well = False
    finally:
        console.print(made)
    sys.exit(not well)


def run(kube: Kube, rounds: int) -> Iterator[tuple[str, str, Pace, Found]]:
    """Yield what each fault did, by its name and reason; the service and the pod are gone afterwards."""
    service = Service(kube, NAME)
    remove(kube)
    kube.apply(service_manifest())
    try:
        service.wait("Ready", "True", seconds=START_SECONDS)
        service.wait("L2Ready", "True", seconds=60)
        add_plain_engine(service)
        for engine in (PLAIN, *service.engines()):
            ask(service, engine, prompt(WORDS))
        for name, fault in {"is well": None, **FAULTS}.items():
            with step(f"Valkey {name}"):
                pace, found = endure(service, fault, rounds)
            yield name, fault.reason if fault else "", pace, found
    finally:
        remove(kube)


def remove(kube: Kube) -> None:
    """Take away what this made, now or another time."""
    try:
        kube.run("delete", "pod", PLAIN, "--ignore-not-found", "--grace-period=1", "--timeout=60s", seconds=65)
    finally:
        kube.run("delete", "llmcs", NAME, "--ignore-not-found")


def service_manifest() -> Json:
    """Return two engines with SmolLM2, a server beside each and a Valkey behind them."""
    return manifest(
        NAME,
        model={"uri": "pvc://models/smollm2-135m", "revision": "1"},
        # So much that what stands beside an engine hardly adds to its pod's share of a CPU.
        engine={
            "replicas": 2,
            "kvCacheMemory": "192Mi",
            "resources": {"requests": {"cpu": "400m", "memory": "2Gi"}, "limits": {"memory": "6Gi"}},
        },
        cache={"topology": "PerEngine", "memory": "1Gi", "l2": {"valkey": {"managed": {"memory": "512Mi"}}}},
    )


def add_plain_engine(service: Service) -> None:
    """Run the engines' own pod once more, without LMCache, out of the sight of router and operator."""
    deployment = service.kube.get("deployment", f"{service.name}-engine") or {}
    spec = without_cache(deployment["spec"]["template"]["spec"], f"{service.name}-router:80")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": PLAIN}, "spec": spec}
    service.kube.run("create", "-f", "-", stdin=json.dumps(pod))

    def ready() -> bool:
        return condition(service.kube.get("pod", PLAIN), "Ready").get("status") == "True"

    wait_until(f"pod {PLAIN} is ready", ready, seconds=START_SECONDS)


def without_cache(pod: Json, answers: str) -> Json:
    """Return the spec of an engine pod without servers and connector, whose gate waits for an address that answers."""
    spec = copy.deepcopy(pod)
    spec["initContainers"] = [one for one in spec["initContainers"] if one.get("restartPolicy") != "Always"]
    for containers, flag, value in (
        (spec["containers"], "--kv-transfer-config", []),
        (spec["initContainers"], "--cache", ["--cache", answers]),
    ):
        args = next(one["args"] for one in containers if flag in one.get("args", ()))
        at = args.index(flag)
        args[at : at + 2] = value
    return spec


def endure(service: Service, fault: Fault | None, rounds: int) -> tuple[Pace, Found]:
    """Inject one fault, measure, undo it, and see what became of a prefix that was in Valkey before."""
    one, other = service.engines()
    text, before = prompt(WORDS), keys(service)
    tokens = ask(service, one, text).tokens.total
    await_stored(service, before, tokens)
    served, named, back = successes(service), 0.0, 0.0
    with Trickle(service) as trickle:
        if fault is None:
            pace = by_turns(service, rounds)
        else:
            pace, named, back = measure(service, fault, rounds)
    twice = successes(service) - served - trickle.answered - rounds
    kept = ask(service, other, text).tokens.server / (tokens // CHUNK * CHUNK)
    return pace, Found(named, back, kept, trickle.answered, len(trickle.lost), twice)


def measure(service: Service, fault: Fault, rounds: int) -> tuple[Pace, float, float]:
    """Return the pace during a fault, the seconds until it was named, and those until its end was."""
    begin = time.monotonic()
    with fault.inject(service):
        service.wait("L2Ready", "False", fault.reason, seconds=NAMED_SECONDS)
        named = time.monotonic() - begin
        pace = by_turns(service, rounds)
        # It held all the time.
        service.wait("L2Ready", "False", fault.reason, seconds=1)
    begin = time.monotonic()
    service.wait("L2Ready", "True", seconds=BACK_SECONDS)
    return pace, named, time.monotonic() - begin


def by_turns(service: Service, rounds: int) -> Pace:
    """Ask an engine with a cache and the one without, by turns, what no one has seen."""
    one, _ = service.engines()
    times: dict[str, list[float]] = {one: [], PLAIN: []}
    for _ in range(rounds):
        for engine, seconds in times.items():
            seconds.append(first_token(service, engine, prompt(WORDS)))
    return Pace(statistics.median(times[one]), statistics.median(times[PLAIN]))


def successes(service: Service) -> int:
    """Return how many requests the engines have answered so far."""
    name = "vllm:request_success_total"
    texts = (service.kube.raw(engine, counters.ENGINE_PORT, "/metrics") for engine in service.engines())
    return int(sum(total(series(text, [name]), name) for text in texts))


def table() -> Table:
    """Return the empty table."""
    made = Table(title="Faults of Valkey; time to the first token of a prompt of some 1,000 tokens, medians")
    for column in ("Valkey", "named", "with LMCache, s", "without, s", "ratio", "named after, s"):
        made.add_column(column)
    for column in ("well after, s", "prefix taken after", "requests", "lost", "counted twice"):
        made.add_column(column)
    return made


def row(name: str, reason: str, pace: Pace, found: Found) -> tuple[str, ...]:
    """Return a row of it."""
    times = (f"{pace.cached:.2f}", f"{pace.plain:.2f}", f"{pace.cached / pace.plain:.2f}")
    named, back = (f"{found.named:.0f}", f"{found.back:.0f}") if reason else ("", "")
    return name, reason, *times, named, back, f"{found.kept:.0%}", *map(str, (found.answered, found.lost, found.twice))


if __name__ == "__main__":
    main()
