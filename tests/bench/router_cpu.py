"""CPU that routers spend on a request and on a chunk of a stream, side by side in one run.

    python -m tests.bench.router_cpu [--neighbour PATH/TO/vllm-router] [--repetitions 25]

One set-up, because figures depend on it:

- Every router has one core of its own, clients and fake engines have the others. Unpinned, a router with a thread for
  each core pays for waking them and for moving between them, and how much depends on what else the machine does.
- The same client loads the same fake engines through each of them, in turn, in many short slices whose order is turned
  round every time. A ratio is that of two neighbouring slices, and the median of those is reported: what else runs on a
  shared machine meets both.
- Seconds are those of the scheduler, of the whole process tree, threads that have ended included. Wall time counts
  nowhere.
- Chunks come at the pace of an engine (16 streams, 200 tokens a second each), one event a write. The pace
  decides on the ratio: one and the same router was at 1.14 of the neighbour at 100 tokens a second, 1.02 at 250 and
  0.98 at 1,000, where both join chunks that wait in their buffers. A chunk costs what a stream costs more
  than a request of the same size that does not stream, through the number of chunks.

Linux only.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httptools
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

ENGINES = (29001, 29002, 29003, 29004)
URLS = [f"http://127.0.0.1:{port}" for port in ENGINES]
CONCURRENCY = 16
CHUNKS = 64


@dataclass
class Router:
    """A router under test, with microseconds by kind of load, one for each repetition."""

    name: str
    port: int
    command: list[str]
    costs: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """A cell of the table: median microseconds of CPU, and the median ratio to the first router."""

    router: str
    kind: str
    microseconds: float
    ratio: float


class Client(asyncio.Protocol):
    """Sends one request after another over one connection."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the router closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._answer.set_result(self._parser.get_status_code())

    async def send(self, request: bytes) -> int:
        """Send a request; give the status once the response has ended."""
        self._parser = httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)  # type: ignore[attr-defined]
        return await asyncio.wait_for(self._answer, 60)


def chat(mark: object, size: int, *, stream: bool = False) -> bytes:
    """Make a chat request of about `size` bytes that shares no prefix with others."""
    text = f"{mark} ".ljust(size, "x")
    body = {"model": "fake", "stream": stream, "max_tokens": CHUNKS if stream else 1}
    data = json.dumps(body | {"messages": [{"role": "user", "content": text}]}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    head += b"content-length: %d\r\n\r\n" % len(data)
    return head + data


async def load(port: int, count: int, make: Callable[[int], bytes]) -> None:
    """Send `count` requests over a few connections. Raises RuntimeError when one fails."""
    numbers = iter(range(count))

    async def worker() -> None:
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
        for number in numbers:
            if (status := await client.send(make(number))) != 200:
                raise RuntimeError(f"port {port} answered {status}")
        client.transport.close()

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))


def cpu_microseconds(pid: int) -> float:
    """Read what a process and its descendants have run, ended threads included.

    The clock's number is that of clock_getcpuclockid(3): the kernel's `MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)`.
    """
    children = Path(f"/proc/{pid}/task").glob("*/children")
    below = sum(cpu_microseconds(int(child)) for task in children for child in task.read_text().split())
    return below + time.clock_gettime_ns(~pid << 3 | 2) / 1000


async def ready(port: int) -> None:
    """Wait until a router answers. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while True:
            try:
                await load(port, CONCURRENCY, lambda number: chat(number, 100))
            except (OSError, RuntimeError, TimeoutError):
                await asyncio.sleep(0.1)
            else:
                return


async def measure(router: Router, pid: int, repetition: int) -> None:
    """Load a router once with each kind of request."""

    async def each(count: int, make: Callable[[int], bytes]) -> float:
        before = cpu_microseconds(pid)
        await load(router.port, count, make)
        return (cpu_microseconds(pid) - before) / count

    small = await each(400, lambda n: chat((repetition, n), 1000))
    large = await each(200, lambda n: chat((repetition, n), 32_000))
    stream = await each(CONCURRENCY, lambda n: chat((repetition, n), 1000, stream=True))
    measured = {"request, 1 KB": small, "request, 32 KB": large, "streamed chunk": (stream - small) / CHUNKS}
    for kind, cost in measured.items():
        router.costs.setdefault(kind, []).append(cost)


def routers(neighbour: str | None) -> list[Router]:
    """Name the routers to compare, the neighbour's first."""
    found = []
    if neighbour:
        for port, policy in ((29100, "round_robin"), (29200, "cache_aware")):
            command = [neighbour, "--host", "127.0.0.1", "--port", str(port), "--worker-urls", *URLS]
            command += ["--policy", policy, "--prometheus-port", str(port + 1), "--log-level", "error"]
            found.append(Router(f"vllm-router {policy}", port, command))
    ours = [sys.executable, "-m", "llmcache_runtime.router.main", "--host", "127.0.0.1", "--port", "29300"]
    ours += ["--private-port", "29301", *(word for url in URLS for word in ("--engine", url))]
    return [*found, Router("ours, PrefixAware", 29300, ours)]


def start(command: list[str], core: int | None = None) -> subprocess.Popen[bytes]:
    """Start a process; only our own gets our module path, which would break a neighbour that is Python too."""
    own = {"PYTHONPATH": os.pathsep.join(sys.path)} if command[0] == sys.executable else {}
    pinned = command if core is None else ["taskset", "--cpu-list", str(core), *command]
    return subprocess.Popen(pinned, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def run(found: list[Router], repetitions: int) -> list[Cost]:
    """Start everything, measure in turn, stop everything."""
    core, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or {core})
    fakes = [sys.executable, "-m", "tests.fakes.engine", "--prefill-rate", "1e9", "--decode-rate", "200"]
    fakes += [word for port in ENGINES for word in ("--port", str(port))]
    processes = [start(fakes), *(start(router.command, core) for router in found)]
    try:
        for router in found:
            await ready(router.port)
        turns = list(zip(found, processes[1:], strict=True))
        for repetition in track(range(repetitions), "measuring"):
            for router, process in turns:
                await measure(router, process.pid, repetition)
            turns.reverse()
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)
        os.sched_setaffinity(0, {core, *others})
    return costs(found)


def costs(found: list[Router]) -> list[Cost]:
    """Reduce what was measured to a row for each router and kind."""
    rows = []
    for router in found:
        for kind, measured in router.costs.items():
            ratios = [mine / first for mine, first in zip(measured, found[0].costs[kind], strict=True)]
            rows.append(Cost(router.name, kind, statistics.median(measured), statistics.median(ratios)))
    return rows


def cpu_table(neighbour: str | None, repetitions: int = 25) -> list[Cost]:
    """Measure; the rows are ordered by router, the neighbour's first if there is one."""
    return uvloop.run(run(routers(neighbour), repetitions))


def table(rows: list[Cost]) -> Table:
    """Show medians in microseconds, and ratios to the first router."""
    kinds = list(dict.fromkeys(row.kind for row in rows))
    shown = Table("router", *kinds, title="CPU, µs (ratio to the first)")
    for router in dict.fromkeys(row.router for row in rows):
        shown.add_row(router, *(f"{r.microseconds:.0f} ({r.ratio:.2f})" for r in rows if r.router == router))
    return shown


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neighbour", metavar="PATH", help="a vllm-router to compare with (PyPI)")
    parser.add_argument("--repetitions", type=int, default=25, help="how often each router is loaded")
    flags = parser.parse_args()
    Console().print(table(cpu_table(flags.neighbour, flags.repetitions)))
