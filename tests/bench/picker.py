"""CPU that a gateway and its endpoint picker spend, beside the proxy, and what the death of the picker costs.

    python -m tests.bench.picker [--repetitions 5]

Envoy 1.40 with the configuration of deploy/examples/endpoint-picker over the same fake engines as the proxy, all loaded
in turn; seconds are those of the scheduler. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench.router_cpu import ENGINES, URLS, Router, chat, cpu_microseconds, load, ready, start
from tests.picker import gateway

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Callable

PICKER, PROXY = 29400, 29300
SESSIONS, TURNS = 32, 20
KINDS: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "1 KB": (1000, lambda n: chat((time.monotonic(), n), 1000)),
    "32 KB": (300, lambda n: chat((time.monotonic(), n), 32_000)),
}


def command(module: str, port: int) -> list[str]:
    """Start one of our front ends over the fake engines."""
    own = [sys.executable, "-m", f"llmcache_runtime.{module}.main", "--host", "127.0.0.1", "--port", str(port)]
    own += ["--private-port", str(port + 1), "--no-access-log"]
    return own + [word for url in URLS for word in ("--engine", url)]


@contextlib.contextmanager
def started(*commands: list[str]) -> Any:
    """Run processes until the end of the block."""
    processes = [start(one) for one in commands]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def envoy(config: dict[str, Any]) -> AsyncIterator[gateway.Envoy]:
    """Run an Envoy on a free port."""
    with tempfile.TemporaryDirectory() as folder:
        async with gateway.running(config, Path(folder)) as running:
            yield running


def alone(config: dict[str, Any]) -> dict[str, Any]:
    """Take the picker out of a configuration."""
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = manager["http_filters"][1:]
    return config


async def costs(setups: list[tuple[Router, list[int]]], repetitions: int) -> None:
    """Load each setup in turn; its cost is that of all its processes."""
    for _ in range(repetitions):
        for setup, pids in setups:
            for kind, (count, make) in KINDS.items():
                before = sum(map(cpu_microseconds, pids))
                await load(setup.port, count, make)
                spent = sum(map(cpu_microseconds, pids)) - before
                setup.costs.setdefault(kind, []).append(spent / count)


async def death(url: str, picker: subprocess.Popen[bytes]) -> str:
    """Kill the picker in the middle of a load of sessions; say what they saw."""
    failed, moved, slowest, homes = 0, 0, 0.0, {}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        for turn in range(TURNS):
            if turn == TURNS // 2:
                picker.kill()
                homes.clear()
            for session in range(SESSIONS):
                body = {"messages": [{"role": "user", "content": f"{session} {turn}"}], "max_tokens": 1}
                header, began = {"x-session-id": f"session {session}"}, time.monotonic()
                answer = await client.post("/v1/chat/completions", json=body, headers=header)
                slowest = max(slowest, time.monotonic() - began)
                failed += answer.status_code != 200
                engine = answer.json().get("engine")
                moved += homes.setdefault(session, engine) != engine if turn >= TURNS // 2 else 0
    return (
        f"picker killed in the middle of {TURNS * SESSIONS} requests of {SESSIONS} sessions: {failed} failed, "
        f"{moved} left their session's engine after it, slowest {slowest * 1000:.0f} ms"
    )


def table(setups: list[tuple[Router, list[int]]]) -> Table:
    """Show medians in microseconds, and ratios to the first."""
    shown = Table("data path", *KINDS, title="CPU a request, µs (ratio to the first)")
    first = setups[0][0].costs
    for setup, _ in setups:
        medians = {kind: statistics.median(setup.costs[kind]) for kind in KINDS}
        shown.add_row(setup.name, *(f"{m:.0f} ({m / statistics.median(first[k]):.1f})" for k, m in medians.items()))
    return shown


async def run(repetitions: int) -> None:
    """Start everything, measure, print, stop everything."""
    fakes = [sys.executable, "-m", "tests.fakes.engine", "--prefill-rate", "1e9", "--decode-rate", "250"]
    fakes += [word for port in ENGINES for word in ("--port", str(port))]
    plain = gateway.configuration(PICKER, ENGINES)
    duplex = gateway.configuration(PICKER, ENGINES, "FULL_DUPLEX_STREAMED")
    with started(fakes, command("router", PROXY), command("picker", PICKER)) as (_, proxy, picker):
        async with (
            envoy(alone(gateway.configuration(PICKER, ENGINES))) as bare,
            envoy(plain) as held,
            envoy(duplex) as both,
        ):
            setups = [(Router("llmcache-router", PROXY, []), [proxy.pid])]
            for name, one, more in (
                ("Envoy alone", bare, []),
                ("Envoy + picker, body held", held, [picker.pid]),
                ("Envoy + picker, bodies both ways", both, [picker.pid]),
            ):
                setups.append((Router(name, int(one.url.rpartition(":")[2]), []), [one.pid, *more]))
            for setup, _pids in setups:
                await ready(setup.port)
            await costs(setups, repetitions)
            Console().print(table(setups))
            Console().print(await death(held.url, picker))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5, help="how often each is loaded")
    uvloop.run(run(parser.parse_args().repetitions))
