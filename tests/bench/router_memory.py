"""Memory of the router while it serves prompts that it has never seen.

    python -m tests.bench.router_memory [--prompts 100000]

Engines that answer at once and remember nothing live in this process; the router has one of its own. Linux only.
"""

import argparse
import asyncio
import re
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import httptools
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.bench.router_cpu import ENGINES, chat, load, ready, routers, start

SIZE = 8_000
PROMPTS = 100_000
LOOKS = 10

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_NOTHING = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Engine(asyncio.Protocol):
    """Answers every POST with an empty object, and health checks and scrapes with nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        answer = _ANSWER if self._parser.get_method() == b"POST" else _NOTHING
        self.transport.write(answer)  # type: ignore[attr-defined]


def megabytes(process: subprocess.Popen[bytes]) -> float:
    """Read the memory that a process has in use."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError(f"process {process.pid} has no memory: has the router ended?")
    return int(found[1]) / 1024


async def run(prompts: int) -> list[tuple[int, float]]:
    """Serve prompts; give the megabytes after each part of them."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Engine, "127.0.0.1", port) for port in ENGINES]
    (router,) = routers(None)
    process = start(router.command)
    try:
        await ready(router.port)
        looks = [(0, megabytes(process))]
        bounds = [prompts * look // LOOKS for look in range(LOOKS + 1)]
        for begin, end in track(list(pairwise(bounds)), "memory"):
            await load(router.port, end - begin, lambda n, begin=begin: chat(begin + n, SIZE))  # type: ignore[misc]
            looks.append((end, megabytes(process)))
    finally:
        process.terminate()
        process.wait(30)
        for server in servers:
            server.close()
    return looks


def memory(prompts: int = PROMPTS) -> list[tuple[int, float]]:
    """Measure."""
    return uvloop.run(run(prompts))


def table(looks: Sequence[tuple[int, float]]) -> Table:
    """Show megabytes by prompts served."""
    shown = Table(f"distinct prompts of {SIZE // 1000} KB", "RSS, MB", title="memory of the router")
    for served, size in looks:
        shown.add_row(f"{served:,}", f"{size:.0f}")
    return shown


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="how many")
    Console().print(table(memory(parser.parse_args().prompts)))
