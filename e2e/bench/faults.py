"""What faults of Valkey cost: time to the first token beside an engine without any cache, and requests lost.

`make bench-faults`: one service of two engines, an LMCache server beside each and a Valkey behind them, and one engine
pod without LMCache. During each fault both are asked by turns what nobody has asked before.
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
from e2e.bench.measure import ask, prompt
from e2e.bench.trickle import Trickle
from e2e.cluster.console import console, step
from e2e.cluster.errors import ClusterError
from e2e.kube import condition, wait_until
from e2e.l2_faults import FAULTS, keys
from e2e.services import Service, manifest
from e2e.stand import bring_up
from llmcache_operator.core.exposition import series, total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.kube import Json, Kube
    from e2e.l2_faults import Fault

NAME, PLAIN = "faults", "no-cache"
START_SECONDS = 1200.0
NAMED_SECONDS, BACK_SECONDS = 90.0, 180.0
WORDS = 520
"""Some 2,000 tokens."""
CHUNK = 256


@dataclass(frozen=True)
class Found:
    """One fault. Times in seconds; `slower`: time to the first token over that of the engine without a cache."""

    fault: str
    reason: str
    named: float
    with_cache: float
    without: float
    back: float
    kept: float
    answered: int
    lost: int
    twice: int

    @property
    def slower(self) -> float:
        """The ratio of the two medians."""
        return self.with_cache / self.without


def main() -> None:
    """Run it; what goes wrong becomes a message and exit status 1."""
    parser = argparse.ArgumentParser(prog="make bench-faults", description=__doc__)
    parser.add_argument("--name", default="dev", help="which local cluster (default: dev)")
    parser.add_argument("--rounds", type=int, default=5, help="prompts to each engine during a fault (default: 5)")
    flags = parser.parse_args()
    try:
        stand = bring_up(flags.name, ("--scrape-interval", "3", "--status-interval", "3"))
        found = list(run(stand.kube, flags.rounds))
    except (ClusterError, TimeoutError) as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)
    console.print(table(found))


def run(kube: Kube, rounds: int) -> Iterator[Found]:
    """Yield what each fault did; the service and the pod are gone afterwards."""
    service = Service(kube, NAME)
    kube.apply(service_manifest())
    try:
        service.wait("Ready", "True", seconds=START_SECONDS)
        service.wait("L2Ready", "True", seconds=60)
        add_plain_engine(service)
        for engine in (PLAIN, *service.engines()):
            ask(service, engine, prompt(WORDS))
        yield without_fault(service, rounds)
        for name, fault in FAULTS.items():
            with step(f"Valkey {name}"):
                found = endure(service, name, fault, rounds)
            console.print(f"  {found}")
            yield found
    finally:
        kube.run("delete", "pod", PLAIN, "--ignore-not-found", "--grace-period=1", "--timeout=60s", seconds=65)
        kube.run("delete", "llmcs", NAME, "--ignore-not-found")


def service_manifest() -> Json:
    """Return two engines with SmolLM2, a server beside each and a Valkey behind them."""
    return manifest(
        NAME,
        model={"uri": "pvc://models/smollm2-135m", "revision": "1"},
        engine={"replicas": 2, "kvCacheMemory": "192Mi"},
        cache={"topology": "PerEngine", "memory": "1Gi", "l2": {"valkey": {"managed": {"memory": "512Mi"}}}},
    )


def add_plain_engine(service: Service) -> None:
    """Run the engines' own pod once more, without LMCache, out of the sight of router and operator."""
    deployment = service.kube.get("deployment", f"{service.name}-engine") or {}
    spec = copy.deepcopy(deployment["spec"]["template"]["spec"])
    spec["initContainers"] = [one for one in spec["initContainers"] if one.get("restartPolicy") != "Always"]
    args = spec["containers"][0]["args"]
    at = args.index("--kv-transfer-config")
    del args[at : at + 2]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": PLAIN}, "spec": spec}
    service.kube.run("create", "-f", "-", stdin=json.dumps(pod))

    def ready() -> bool:
        return condition(service.kube.get("pod", PLAIN), "Ready").get("status") == "True"

    wait_until(f"pod {PLAIN} is ready", ready, seconds=START_SECONDS)


def without_fault(service: Service, rounds: int) -> Found:
    """Measure the same with a Valkey that is well."""
    with_cache, without = by_turns(service, rounds)
    return Found("is well", "", 0, with_cache, without, 0, 1, 0, 0, 0)


def endure(service: Service, name: str, fault: Fault, rounds: int) -> Found:
    """Inject one fault, measure, undo it, and see what became of a prefix that was in Valkey before."""
    one, other = service.engines()
    text, before = prompt(WORDS), keys(service)
    chunks = ask(service, one, text).tokens.total // CHUNK
    wait_until("the prefix is in Valkey", lambda: keys(service) - before >= chunks, seconds=60, every=0.5)
    served = successes(service)
    with Trickle(service) as trickle:
        with fault.inject(service):
            begin = time.monotonic()
            service.wait("L2Ready", "False", fault.reason, seconds=NAMED_SECONDS)
            named = time.monotonic() - begin
            with_cache, without = by_turns(service, rounds)
        begin = time.monotonic()
        service.wait("L2Ready", "True", seconds=BACK_SECONDS)
        back = time.monotonic() - begin
    twice = successes(service) - served - trickle.answered - rounds
    kept = ask(service, other, text).tokens.server / (chunks * CHUNK)
    lost = len(trickle.lost)
    return Found(name, fault.reason, named, with_cache, without, back, kept, trickle.answered, lost, twice)


def by_turns(service: Service, rounds: int) -> tuple[float, float]:
    """Return the median seconds of an engine with a cache and of the one without, for prompts that no one has seen."""
    one, _ = service.engines()
    times: dict[str, list[float]] = {one: [], PLAIN: []}
    for _ in range(rounds):
        for engine, seconds in times.items():
            seconds.append(ask(service, engine, prompt(WORDS)).seconds)
    return statistics.median(times[one]), statistics.median(times[PLAIN])


def successes(service: Service) -> int:
    """Return how many requests the engines have answered so far."""
    name = "vllm:request_success_total"
    texts = (service.kube.raw(engine, counters.ENGINE_PORT, "/metrics") for engine in service.engines())
    return sum(total(series(text, [name]), name) for text in texts)


def table(found: list[Found]) -> Table:
    """Return it for people."""
    made = Table(title="Faults of Valkey; time to the first token of a prompt of some 2,000 tokens, medians")
    for column in ("Valkey", "named", "after, s", "with LMCache, s", "without, s", "ratio"):
        made.add_column(column)
    for column in ("named well after, s", "prefix taken after", "requests", "lost", "answered twice"):
        made.add_column(column)
    for one in found:
        made.add_row(
            one.fault,
            one.reason,
            f"{one.named:.0f}",
            f"{one.with_cache:.2f}",
            f"{one.without:.2f}",
            f"{one.slower:.2f}",
            f"{one.back:.0f}",
            f"{one.kept:.0%}",
            *map(str, (one.answered, one.lost, one.twice)),
        )
    return made


if __name__ == "__main__":
    main()
