"""CPU that routers spend on a request and on a piece of a stream, side by side in one run.

    python -m tests.bench.router_cpu [--neighbour PATH/TO/vllm-router] [--repetitions 5]

All routers run over the same fake engines and are loaded in turn, so that ratios hold on a machine that is shared;
seconds are those of the scheduler (/proc/PID/task/*/schedstat). Linux only.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httptools
import uvloop
from rich.console import Console
from rich.table import Table

ENGINES = (29001, 29002, 29003, 29004)
URLS = [f"http://127.0.0.1:{port}" for port in ENGINES]
CONCURRENCY = 16
PIECES = 256


@dataclass
class Router:
    """A router under test, with microseconds by kind of load."""

    name: str
    port: int
    command: list[str]
    costs: dict[str, list[float]] = field(default_factory=dict)


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
    body = {"model": "fake", "stream": stream, "max_tokens": PIECES if stream else 1}
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
    """Read what all threads of a process have run."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1000


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
    kinds: dict[str, tuple[int, int, Callable[[int], bytes]]] = {
        "1 KB": (1500, 1, lambda n: chat((repetition, n), 1000)),
        "32 KB": (400, 1, lambda n: chat((repetition, n), 32_000)),
        "piece": (32, PIECES, lambda n: chat((repetition, n), 1000, stream=True)),
    }
    for kind, (count, pieces, make) in kinds.items():
        before = cpu_microseconds(pid)
        await load(router.port, count, make)
        router.costs.setdefault(kind, []).append((cpu_microseconds(pid) - before) / count / pieces)


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


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a process; only our own gets our module path, which would break a neighbour that is Python too."""
    own = {"PYTHONPATH": os.pathsep.join(sys.path)} if command[0] == sys.executable else {}
    return subprocess.Popen(command, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def run(found: list[Router], repetitions: int) -> None:
    """Start everything, measure in turn, print a table, stop everything."""
    fakes = [sys.executable, "-m", "tests.fakes.engine", "--prefill-rate", "1e9", "--decode-rate", "250"]
    fakes += [word for port in ENGINES for word in ("--port", str(port))]
    processes = [start(command) for command in (fakes, *(router.command for router in found))]
    try:
        for router in found:
            await ready(router.port)
        for repetition in range(repetitions):
            for router, process in zip(found, processes[1:], strict=True):
                await measure(router, process.pid, repetition)
    finally:
        for process in reversed(processes):
            process.terminate()
    Console().print(table(found))


def table(found: list[Router]) -> Table:
    """Show medians in microseconds, and ratios to the first router."""
    shown = Table("router", *found[0].costs, title="CPU, µs (ratio to the first)")
    for router in found:
        cells = []
        for kind, costs in router.costs.items():
            median = statistics.median(costs)
            cells.append(f"{median:.0f} ({median / statistics.median(found[0].costs[kind]):.2f})")
        shown.add_row(router.name, *cells)
    return shown


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neighbour", metavar="PATH", help="a vllm-router to compare with (PyPI)")
    parser.add_argument("--repetitions", type=int, default=5, help="how often each router is loaded")
    flags = parser.parse_args()
    uvloop.run(run(routers(flags.neighbour), flags.repetitions))
