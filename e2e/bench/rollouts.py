"""Streams lost while routers or engines are replaced, and while there are fewer of them: real pods, real engines.

`make bench-rollouts`: two routers and two engines. Each event begins under load, and the load lasts until it is over
and at least 1,000 streams were asked for, each on a connection of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
from collections import Counter
from typing import TYPE_CHECKING

import httpx
from rich.table import Table

from e2e.cluster.console import console, step
from e2e.cluster.errors import ClusterError
from e2e.kube import wait_until
from e2e.services import Service, manifest
from e2e.stand import bring_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from e2e.kube import Json, Kube

NAME = "rollouts"
START_SECONDS, EVENT_SECONDS = 900.0, 600.0
COUNT, AT_ONCE, TOKENS = 1000, 16, 24
WHOLE = "whole"
"""All tokens came, then the end. An engine that aborts a request ends its stream in good form, too, only sooner."""


def main() -> None:
    """Run it; exit status 1 where a stream was lost or something went wrong."""
    parser = argparse.ArgumentParser(prog="make bench-rollouts", description=__doc__)
    parser.add_argument("--name", default="dev", help="which local cluster (default: dev)")
    flags = parser.parse_args()
    try:
        found = run(bring_up(flags.name).kube)
    except (ClusterError, TimeoutError) as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)
    made = Table("event", "streams", "whole", "what became of the others")
    for event, ends in found.items():
        others = ", ".join(f"{count} {end}" for end, count in ends.items() if end != WHOLE)
        made.add_row(event, f"{ends.total():,}", f"{ends[WHOLE]:,}", others or "none")
    console.print(made)
    sys.exit(any(set(ends) != {WHOLE} for ends in found.values()))


def run(kube: Kube) -> Mapping[str, Counter[str]]:
    """Return how streams ended, by event; the service is gone afterwards."""
    kube.apply(service_manifest())
    service = Service(kube, NAME)
    found = {}
    try:
        service.wait("Ready", "True", seconds=START_SECONDS)
        for event, happen in EVENTS.items():
            with step(event):
                found[event] = asyncio.run(under_load(service, happen))
            console.print(f"  {dict(found[event])}")
    finally:
        kube.run("delete", "llmcs", NAME, "--ignore-not-found")
    return found


def service_manifest() -> Json:
    """Return two routers and two engines of the tiny model."""
    return manifest(NAME, engine={"replicas": 2}, router={"replicas": 2}, cache={"memory": "512Mi"})


def replaced(component: str) -> Callable[[Service], None]:
    """Return what restarts the Deployment of a component and waits until its old pods are gone."""

    def happen(service: Service) -> None:
        old = names(service, component)
        service.kube.run("rollout", "restart", f"deployment/{service.name}-{component}")
        gone = f"other pods than {old}"
        wait_until(gone, lambda: len(now := names(service, component)) == 2 and not now & old, seconds=EVENT_SECONDS)
        service.wait("Ready", "True")

    return happen


def fewer(service: Service) -> None:
    """Take one engine away."""
    service.kube.run("scale", "llmcs", service.name, "--replicas=1")
    wait_until("one engine", lambda: len(names(service, "engine")) == 1, seconds=EVENT_SECONDS)
    service.wait("Ready", "True")


def names(service: Service, component: str) -> set[str]:
    """Return the pods of a component, those that are on their way out included."""
    return {pod["metadata"]["name"] for pod in service.kube.pods(service.name, component, leaving=True)}


EVENTS: dict[str, Callable[[Service], None]] = {
    "the routers are replaced": replaced("router"),
    "the engines are replaced": replaced("engine"),
    "two engines become one": fewer,
}


async def under_load(service: Service, happen: Callable[[Service], None]) -> Counter[str]:
    """Let something happen once a tenth of the streams have ended; return how all ended."""
    router = service.kube.get("service", f"{service.name}-router") or {}
    url = f"http://{router['spec']['clusterIP']}/v1/completions"
    numbers, ends = itertools.count(), Counter[str]()
    busy, over = asyncio.Event(), asyncio.Event()

    async def client() -> None:
        while not over.is_set() or ends.total() < COUNT:
            ends[await stream(url, service.name, next(numbers))] += 1
            if ends.total() > COUNT // 10:
                busy.set()

    async def event() -> None:
        await busy.wait()
        try:
            await asyncio.to_thread(happen, service)
        finally:
            over.set()

    await asyncio.gather(event(), *(client() for _ in range(AT_ONCE)))
    return ends


async def stream(url: str, model: str, number: int) -> str:
    """Ask for one stream; return `whole`, or how it ended otherwise."""
    prompt = f"{number}: there were small boats,"
    body = {"model": model, "prompt": prompt, "max_tokens": TOKENS, "stream": True, "ignore_eos": True}
    all_tokens, last = False, "nothing"
    try:
        async with (
            httpx.AsyncClient(timeout=120, trust_env=False) as http,
            http.stream("POST", url, json=body) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                return f"answered {answer.status_code}: {(await answer.aread())[:200]!r}"
            async for line in answer.aiter_lines():
                last = line or last
                all_tokens = all_tokens or '"finish_reason":"length"' in line
    except httpx.HTTPError as error:
        return f"{type(error).__name__} after {last[:60]}"
    if last == "data: [DONE]" and all_tokens:
        return WHOLE
    return f"ended with {last[:60]}, {'with' if all_tokens else 'without'} all tokens"


if __name__ == "__main__":
    main()
