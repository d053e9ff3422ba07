"""A picker, fake engines and a real Envoy; uvloop as in production."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvloop

from llmcache_runtime.picker.app import Picker
from llmcache_runtime.router.engines import Endpoint
from llmcache_runtime.router.health import HealthSettings
from llmcache_runtime.router.settings import Settings
from tests.fakes.engine import Engine, Served, Speeds, serve
from tests.picker import gateway
from tests.router.conftest import FAST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.picker.gateway import Envoy


# Ten megabytes are two and a half million tokens.
PREFILL = 1e8
# Nobody finds out that an engine is gone but by being sent there.
UNPROBED = HealthSettings(interval=3600.0)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Running:
    """A picker that runs."""

    picker: Picker
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.picker.stop()
        await asyncio.wait_for(self.task, 20)

    async def page(self) -> dict[str, dict[str, Any]]:
        """What it knows of its engines, by name."""
        async with httpx.AsyncClient(trust_env=False) as client:
            page = (await client.get(f"http://127.0.0.1:{self.picker.private_port}/debug/engines")).json()
        return {engine["name"]: engine for engine in page}

    async def metric(self, sample: str) -> float:
        """Read a sample by name and labels as exposed; 0 when absent."""
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"http://127.0.0.1:{self.picker.private_port}/metrics")).text
        values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(sample + " ")]
        return float(values[0]) if values else 0.0


async def start_picker(engines: list[Served], **settings: Any) -> Running:
    endpoints = tuple(Endpoint(e.engine.name, e.engine.name, "127.0.0.1", e.port) for e in engines)
    defaults: dict[str, Any] = {"access_log": False, "metrics_interval": 0.0, "grace": 0.0, "health": FAST}
    defaults |= {"host": "127.0.0.1", "port": 0, "private_port": 0, "engines": endpoints}
    picker = Picker(Settings(**(defaults | settings)))
    task = asyncio.get_running_loop().create_task(picker.run())
    waiter = asyncio.get_running_loop().create_task(picker.listening.wait())
    await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    return Running(picker, task)


async def within(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait until a condition that has to be asked for holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - conditions of all kinds, in no loop's hands
            await asyncio.sleep(0.01)


@dataclass
class Stack:
    """All of it, and a client of the gateway."""

    running: Running
    engines: list[Served]
    envoy: Envoy
    client: httpx.AsyncClient

    async def in_flight(self) -> int:
        """Requests that the picker counts on all engines."""
        return sum(engine["running"] for engine in (await self.running.page()).values())

    async def settled(self) -> None:
        """Wait until it counts none: a gateway tells of the end a moment after the client has seen it."""

        async def none() -> bool:
            return not await self.in_flight()

        await within(none)


@pytest.fixture
async def make_stack(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Stack]]]:
    """Make stacks: `make_stack(2, policy="RoundRobin")`."""
    async with contextlib.AsyncExitStack() as exits:

        async def make(count: int = 2, *, body_mode: str | None = None, **settings: Any) -> Stack:
            engines = [await serve(Engine(f"engine-{i}", speeds=Speeds(prefill=PREFILL))) for i in range(count)]
            for engine in engines:
                exits.push_async_callback(engine.stop)
            running = await start_picker(engines, **settings)
            exits.push_async_callback(running.stop)
            config = gateway.configuration(running.picker.port, [e.port for e in engines], body_mode)
            envoy = await exits.enter_async_context(gateway.running(config, tmp_path))
            client = httpx.AsyncClient(base_url=envoy.url, timeout=20, trust_env=False)
            await exits.enter_async_context(client)
            return Stack(running, engines, envoy, client)

        yield make
