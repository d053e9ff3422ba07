"""Three times as much KV as the cache holds, for minutes: no kill, no restart, memory within limits."""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
from rich.table import Table

from e2e.bench.measure import prompt
from e2e.cluster.console import console
from e2e.cluster.errors import ClusterError
from e2e.services import SMOL, Service, manifest
from e2e.stand import bring_up
from llmcache_operator.core.quantity import to_bytes
from llmcache_operator.core.sizing import MOST_FILL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.kube import Json, Kube

NAME = "soak"
_START_SECONDS = 1200.0
SERVER, VALKEY = "256Mi", "512Mi"
PROMPT_WORDS = 260
"""Some 1,000 tokens, 23 MB of KV with SmolLM2."""
PROMPT_BYTES = 23_000_000
CLIENTS = 2
# Memory that can't be reclaimed, from whichever version of cgroups there is; the page cache can.
_MEMORY = (
    "old=/sys/fs/cgroup/memory/memory.stat; if test -e $old; "
    "then awk '/^total_(rss|shmem) /{sum += $2} END {print sum}' $old; "
    "else awk '/^(anon|shmem) /{sum += $2} END {print sum}' /sys/fs/cgroup/memory.stat; fi"
)


@dataclass
class Watched:
    """The most that each container used, in parts of its limit, and what went wrong."""

    peaks: dict[str, float] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    answered: int = 0
    failed: list[str] = field(default_factory=list)


def main() -> None:
    """Run it; exit status 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="make soak-tiers", description=__doc__)
    parser.add_argument("--name", default="dev", help="which local cluster (default: dev)")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default: 20)")
    flags = parser.parse_args()
    try:
        stand = bring_up(flags.name, ("--scrape-interval", "3", "--status-interval", "3"))
        watched = run(stand.kube, 60 * flags.minutes)
    except (ClusterError, TimeoutError) as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)
    over = [name for name, peak in watched.peaks.items() if peak > 1]
    if over or any(watched.restarts.values()) or watched.failed or not watched.answered:
        console.print(f"[red]did not hold:[/red] over {over}, restarts {watched.restarts}, {watched.failed[:3]}")
        sys.exit(1)


def run(kube: Kube, seconds: float) -> Watched:
    """Send traffic and look on."""
    kube.apply(service_manifest())
    service, watched = Service(kube, NAME), Watched()
    try:
        service.wait("Ready", "True", seconds=_START_SECONDS)
        stop = threading.Event()
        texts = [prompt(PROMPT_WORDS) for _ in range(working_set())]
        console.print(f"{len(texts)} prompts of 23 MB each, by turns")
        turns = itertools.cycle(texts)
        clients = [threading.Thread(target=send, args=(service, turns, stop, watched)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                look(service, watched)
                time.sleep(10)
        finally:
            stop.set()
            for client in clients:
                client.join()
        tell(service, watched)
    finally:
        kube.run("delete", "llmcs", NAME, "--ignore-not-found")
    return watched


def service_manifest() -> Json:
    """Return two engines with small caches, a server beside each and a small Valkey."""
    return manifest(
        NAME,
        model={"uri": SMOL, "revision": "1"},
        engine={"replicas": 2, "maxModelLen": 2048, "kvCacheMemory": "128Mi"},
        cache={
            "topology": "PerEngine",
            "memory": SERVER,
            "selfTest": "Disabled",
            "l2": {"valkey": {"managed": {"memory": VALKEY}}},
        },
    )


def working_set() -> int:
    """Return how many prompts are three times what all tiers together hold."""
    held = 2 * MOST_FILL * to_bytes(SERVER) + to_bytes(VALKEY)
    return int(3 * held / PROMPT_BYTES) + 1


def send(service: Service, texts: Iterator[str], stop: threading.Event, watched: Watched) -> None:
    """Ask through the router until told to stop."""
    router = service.kube.get("service", f"{service.name}-router")
    assert router is not None
    url = f"http://{router['spec']['clusterIP']}/v1/completions"
    while not stop.is_set():
        body = {"model": service.name, "prompt": next(texts), "max_tokens": 1, "temperature": 0}
        try:
            httpx.post(url, json=body, timeout=300, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            watched.failed.append(f"{type(error).__name__}: {error}")
        else:
            watched.answered += 1


def look(service: Service, watched: Watched) -> None:
    """Read the memory and the restarts of every container that is limited."""
    for part in ("engine", "valkey"):
        for pod in service.kube.pods(service.name, part):
            spec, status, name = pod["spec"], pod["status"], pod["metadata"]["name"]
            limits = {
                one["name"]: one["resources"]["limits"]["memory"]
                for one in (*spec.get("initContainers", ()), *spec["containers"])
                if "memory" in one.get("resources", {}).get("limits", {})
            }
            for one in (*status.get("initContainerStatuses", ()), *status["containerStatuses"]):
                label = f"{name}/{one['name']}"
                watched.restarts[label] = one["restartCount"]
                if "running" in one["state"] and one["name"] in limits:
                    used = service.kube.run("exec", name, "-c", one["name"], "--", "sh", "-c", _MEMORY).strip()
                    share = float(used) / to_bytes(limits[one["name"]])
                    watched.peaks[label] = max(share, watched.peaks.get(label, 0.0))


def tell(service: Service, watched: Watched) -> None:
    """Print what was seen."""
    made = Table("container", "most memory, of its limit", "restarts", title=f"{watched.answered} requests answered")
    for label, peak in watched.peaks.items():
        made.add_row(label, f"{peak:.0%}", str(watched.restarts[label]))
    console.print(made)
    evicted = "redis-cli info stats | grep evicted_keys"
    console.print("Valkey:", service.kube.run("exec", f"{NAME}-valkey-0", "--", "sh", "-c", evicted).strip())
    for engine in service.engines():
        metrics = service.kube.raw(engine, 8080, "/metrics").splitlines()
        console.print(engine, *(line for line in metrics if line.startswith("lmcache_mp_l1_evicted_chunks_total")))


if __name__ == "__main__":
    main()
