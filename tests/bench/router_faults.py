"""What clients see of an engine that is sick, one of four: streams that fail, by when they began.

    python -m tests.bench.router_faults [--seconds 15] [--fault flapping-1-3 ...]

The router runs with its defaults, in a process of its own. Requests that began in the first two seconds of a fault may
fail, as nobody knows of it yet; later ones must not. Every stream that is cut has to end with an error event.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.bench.router_cpu import ready, start
from tests.fakes.client import End, Outcome, stream
from tests.fakes.engine import Engine, Fault, Served, serve

PORT = 29800
GRACE = 2.0
RATE = 40.0
TOKENS = 100  # half a second
PATIENCE = 45.0


@dataclass(frozen=True)
class Result:
    """Streams of one fault: all, those that failed by when they began, those cut without a word."""

    fault: str
    streams: int
    early: int
    late: int
    silent: int


async def kill(served: Served, until: float) -> None:
    """Kill an engine for good."""
    del until
    await served.stop()


def become(fault: Fault) -> Callable[[Served, float], Awaitable[None]]:
    """Give an engine a fault for good."""

    async def change(served: Served, until: float) -> None:
        del until
        served.engine.fault = fault

    return change


def flap(down: float, up: float) -> Callable[[Served, float], Awaitable[None]]:
    """Kill an engine and start it again, over and over."""

    async def change(served: Served, until: float) -> None:
        while time.monotonic() < until:
            await served.stop()
            await asyncio.sleep(down)
            await served.start_again()
            await asyncio.sleep(up)

    return change


FAULTS = {
    "killed": kill,
    "hung": become(Fault.HANG),
    "slow": become(Fault.SLOW),
    "refusing": become(Fault.REFUSE),
    "flapping-0.3-0.7": flap(0.3, 0.7),
    "flapping-1-1": flap(1, 1),
    "flapping-1-3": flap(1, 3),
    "flapping-2-8": flap(2, 8),
}


@asynccontextmanager
async def fleet(size: int = 4) -> AsyncIterator[list[Served]]:
    """Run engines, and a router before them."""
    engines = [await serve(Engine(f"engine-{number}")) for number in range(size)]
    router = [sys.executable, "-m", "llmcache_runtime.router.main", "--host", "127.0.0.1", "--port", str(PORT)]
    router += ["--private-port", str(PORT + 1), *(word for e in engines for word in ("--engine", e.url))]
    process = start([*router, "--grace", "0", "--drain-timeout", "1"])
    try:
        await ready(PORT)
        yield engines
    finally:
        process.terminate()
        process.wait(30)
        for served in engines:
            await served.stop()


async def steady(until: float) -> list[Outcome]:
    """Ask for streams at a steady rate, whatever becomes of them."""
    tasks = []
    for number in count():
        if time.monotonic() >= until:
            break
        tasks.append(asyncio.create_task(stream(PORT, f"{number} asks for much", TOKENS)))
        await asyncio.sleep(1 / RATE)
    await asyncio.wait(tasks, timeout=PATIENCE)
    return [task.result() if task.done() else Outcome(0.0, End.CUT) for task in tasks]


async def suffer(fault: str, seconds: float) -> Result:
    """Load a fleet, one engine of which gets a fault."""
    async with fleet() as engines:
        begun = time.monotonic() + 1.0
        loading = asyncio.create_task(steady(begun + seconds))
        await asyncio.sleep(1.0)
        await FAULTS[fault](engines[0], begun + seconds)
        outcomes = await loading
    failed = [outcome for outcome in outcomes if outcome.end is not End.WHOLE]
    late = sum(outcome.started > begun + GRACE for outcome in failed)
    silent = sum(outcome.end is End.CUT for outcome in failed)
    return Result(fault, len(outcomes), len(failed) - late, late, silent)


async def recover() -> float:
    """Kill all engines, start one again; seconds from there to the first whole stream."""
    async with fleet() as engines:
        for served in engines:
            await served.stop()
        await asyncio.sleep(5.0)
        await engines[2].start_again()
        begun = time.monotonic()
        while (await stream(PORT, "anybody there?", 1)).end is not End.WHOLE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return time.monotonic() - begun


async def run(faults: list[str], seconds: float) -> tuple[list[Result], float]:
    """Try every fault, then the end of all engines."""
    results = [await suffer(fault, seconds) for fault in track(faults, "suffering")]
    return results, await recover()


def table(results: list[Result]) -> Table:
    """Show failures."""
    shown = Table("fault", "streams", "failed, began in the first 2 s", "failed, began later", "cut without a word")
    for result in results:
        shown.add_row(result.fault, *map(str, (result.streams, result.early, result.late, result.silent)))
    return shown


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each fault is watched")
    parser.add_argument("--fault", choices=list(FAULTS), action="append", help="only this one; repeat for more")
    flags = parser.parse_args()
    rows, seconds = uvloop.run(run(flags.fault or list(FAULTS), flags.seconds))
    Console().print(table(rows))
    Console().print(f"all engines down, then one back: first stream after {seconds:.2f} s")
    sys.exit(any(row.late or row.silent for row in rows) or seconds > GRACE)
