"""Which shape of the cache is fast: one living service that is laid out anew while requests go on.

`make bench-tiers`: cold, own memory, and the other engine's prefix through a shared server, through Valkey, and through
a volume. Writes a table, its numbers as JSON, and a picture.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from e2e.bench.measure import PASSIVE, Asked, ask, whole_chunks
from e2e.bench.picture import draw
from e2e.bench.trickle import Trickle
from e2e.cluster.console import console, step
from e2e.cluster.errors import ClusterError
from e2e.kube import condition, wait_until
from e2e.services import CLAIM, SMOL, Service, manifest
from e2e.stand import bring_up
from e2e.valkey import CHUNK

if TYPE_CHECKING:
    from e2e.kube import Json

NAME = "tiers"
_START_SECONDS = 1200.0
OPERATOR_ARGS = ("--window", "60", "--scrape-interval", "3", "--status-interval", "3")
# A merge patch: null takes a field away.
LAYOUTS: dict[str, dict[str, Any]] = {
    "Shared, over TCP": {"topology": "Shared"},
    "PerEngine + Valkey": {"topology": "PerEngine", "l2": {"valkey": {"managed": {"memory": "2Gi", "cpu": "500m"}}}},
    "PerEngine + fileSystem": {"topology": "PerEngine", "l2": {"valkey": None, "fileSystem": {"claimName": "kv"}}},
}
COLD, OWN = "cold", "own LMCache memory"
MEMORY, WARM = "640Mi", 5
"""LMCache's memory, and the prompts that fill it before anything counts: the kernel zeroes each page at its first use,
which takes longer than a load and happens once."""
CHUNKS = 27


@dataclass
class Results:
    """What was asked, by row of the table."""

    rows: dict[str, list[Asked]] = field(default_factory=dict)

    def add(self, row: str, asked: Asked) -> None:
        """Take note, and tell whoever waits."""
        self.rows.setdefault(row, []).append(asked)
        console.print(f"  {row}: {asked.seconds:.2f} s, {asked.tokens}")

    def median(self, row: str) -> float:
        """Return the median of the seconds of a row."""
        return statistics.median(asked.seconds for asked in self.rows[row])


def main() -> None:
    """Run it; what goes wrong becomes a message and exit status 1."""
    parser = argparse.ArgumentParser(prog="make bench-tiers", description=__doc__)
    parser.add_argument("--name", default="dev", help="which local cluster (default: dev)")
    parser.add_argument("--rounds", type=int, default=7, help="prompts for each row (default: 7)")
    parser.add_argument("--out", type=Path, default=Path("tiers.json"), help="numbers; the picture goes beside it")
    flags = parser.parse_args()
    try:
        results = run(flags.name, flags.rounds)
    except (ClusterError, TimeoutError) as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)
    console.print(table(results))
    numbers = {row: [_plain(asked) for asked in found] for row, found in results.rows.items()}
    flags.out.write_text(json.dumps(numbers, indent=1))
    draw(numbers, flags.out.with_suffix(".png"))


def run(name: str, rounds: int) -> Results:
    """Bring everything up, measure every layout, and take the service down again."""
    kube = bring_up(name, OPERATOR_ARGS).kube
    kube.apply(CLAIM, service_manifest())
    service, results = Service(kube, NAME), Results()
    try:
        service.wait("Ready", "True", seconds=_START_SECONDS)
        for layout, cache in LAYOUTS.items():
            lay_out(service, layout, cache)
            measure(service, layout, rounds, results)
    finally:
        kube.run("delete", "llmcs", NAME, "--ignore-not-found")
    return results


def service_manifest() -> Json:
    """Return two engines with SmolLM2 whose own caches hold one prompt, and no second one.

    Most CPU is kept for LMCache and what is behind it: vLLM's workers spin while they wait for it. Valkey needs most:
    with 250m beside pods of 670m it did not run for seconds while engines computed, and what was stored then was lost.
    """
    return manifest(
        NAME,
        # With the shape of its KV, servers keep room for a prompt.
        model={"uri": SMOL, "revision": "1", "kv": {"layers": 30, "heads": 3, "headDim": 64}},
        engine={
            "replicas": 2,
            "maxModelLen": 7168,
            "kvCacheMemory": "160Mi",
            "env": PASSIVE,
            "resources": {"requests": {"cpu": "20m", "memory": "2Gi"}, "limits": {"memory": "6Gi"}},
        },
        cache={"memory": MEMORY, "cpu": "200m", "selfTest": "Disabled"},
    )


def lay_out(service: Service, layout: str, cache: dict[str, Any]) -> None:
    """Change the living service, with requests going on through its router, of which none may be lost."""
    if layout == next(iter(LAYOUTS)):
        return
    with step(f"laying the cache out as {layout}"), Trickle(service) as trickle:
        service.patch({"cache": cache})
        service.wait("Ready", "True", seconds=_START_SECONDS)
        wait_until("both engines are of the new layout", lambda: settled(service), seconds=_START_SECONDS)
    trickle.none_lost()


def settled(service: Service) -> bool:
    """Whether nothing is under way any more."""
    resource = service.resource()
    engines = resource["status"]["engines"]["summary"]
    return engines == "2/2" and condition(resource, "Reconciling") == {} and len(service.engines()) == 2


def measure(service: Service, layout: str, rounds: int, results: Results) -> None:
    """Ask one engine what nobody has computed yet, then the other one the same."""
    one, other = service.engines()
    with step("filling LMCache's memory"):
        for text in [whole_chunks(CHUNKS) for _ in range(WARM)]:
            ask(service, one, text)
            ask(service, other, text)
    prompts = [whole_chunks(CHUNKS) for _ in range(rounds)]
    for text in prompts:
        # By turns: the servers' memory holds few of them.
        results.add(COLD, ask(service, one, text))
        results.add(layout, ask(service, other, text))
    if "Valkey" in layout and rounds > 1:
        for text in (prompts[-2:] * rounds)[:rounds]:
            # Each pushes the other out of the engine's own cache, which is too small for both.
            results.add(OWN, ask(service, one, text))


def table(results: Results) -> Table:
    """Return the medians for people."""
    made = Table(title=f"One prompt of {CHUNKS * CHUNK + 1:,} tokens, 159 MB of KV; medians")
    for column in ("where its KV comes from", "seconds", "of cold", "MB/s", "CPU seconds", "tokens taken"):
        made.add_column(column, justify="left" if column.startswith("where") else "right")
    cold = results.median(COLD)
    for row, found in results.rows.items():
        seconds = results.median(row)
        rate = statistics.median(asked.megabytes_a_second for asked in found)
        spent = statistics.median(asked.cpu for asked in found)
        taken = min(asked.tokens.server for asked in found)
        made.add_row(
            row, f"{seconds:.2f}", f"{seconds / cold:.0%}", f"{rate:.0f}" if rate else "", f"{spent:.1f}", f"{taken:,}"
        )
    return made


def _plain(asked: Asked) -> dict[str, float]:
    return {
        "seconds": round(asked.seconds, 3),
        "cpu": round(asked.cpu, 2),
        "computed": asked.tokens.computed,
        "server": asked.tokens.server,
        "MB/s": round(asked.megabytes_a_second, 1),
    }


if __name__ == "__main__":
    main()
