"""A router and fake engines in one loop, uvloop as in production."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvloop

from llmcache_runtime.policy import PrefixAware
from llmcache_runtime.router.app import Router
from llmcache_runtime.router.engines import Endpoint
from llmcache_runtime.router.health import HealthSettings
from llmcache_runtime.router.settings import Settings
from tests.fakes.engine import Engine, Lru, Served, serve

# pytest-asyncio asks for the current loop, which makes one that nobody closes unless none was ever set.
asyncio.set_event_loop(None)

FAST = HealthSettings(interval=0.05, ejected_interval=0.05, timeout=0.2, trial=0.1, max_trial=0.2, give_up_probes=6)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Stack:
    """A running router, its engines and a client of it."""

    router: Router
    engines: list[Served]
    client: httpx.AsyncClient
    task: asyncio.Task[None]

    @property
    def private(self) -> str:
        return f"http://127.0.0.1:{self.router.private_port}"

    async def metric(self, sample: str) -> float:
        """Read a sample by name and labels as exposed; 0 when absent."""
        text = (await self.client.get(f"{self.private}/metrics")).text
        values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(sample + " ")]
        return float(values[0]) if values else 0.0

    async def raw(self, limit: int = 65536) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the public port; `limit` bounds what is read ahead."""
        return await asyncio.open_connection("127.0.0.1", self.router.port, limit=limit)

    @property
    def prefix_aware(self) -> PrefixAware:
        """The router's policy, which must be the default one."""
        assert isinstance(self.router.policy, PrefixAware)
        return self.router.policy


StackMaker = Callable[..., Awaitable[Stack]]


@pytest.fixture
async def make_stack() -> AsyncIterator[StackMaker]:
    """Make stacks: `make_stack(2, policy="RoundRobin")`."""
    async with contextlib.AsyncExitStack() as exits:

        async def make(
            count: int = 2, *, shared: Lru | None = None, cache_tokens: int = 200_000, **settings: Any
        ) -> Stack:
            made = [Engine(f"engine-{i}", shared=shared, cache_tokens=cache_tokens) for i in range(count)]
            engines = [await serve(engine) for engine in made]
            for engine in engines:
                exits.push_async_callback(engine.stop)
            stack = await start(engines, **settings)
            exits.push_async_callback(finish, stack)
            return stack

        yield make


async def start(engines: list[Served], **settings: Any) -> Stack:
    endpoints = tuple(Endpoint(e.engine.name, e.engine.name, "127.0.0.1", e.port) for e in engines)
    defaults: dict[str, Any] = {
        "access_log": False,
        "metrics_interval": 0.0,
        "grace": 0.0,
        "health": FAST,
        "engines": endpoints,
    }
    router = Router(Settings(host="127.0.0.1", port=0, private_port=0, **(defaults | settings)))
    task = asyncio.get_running_loop().create_task(router.run())
    waiter = asyncio.get_running_loop().create_task(router.listening.wait())
    await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{router.port}", timeout=20, trust_env=False)
    return Stack(router, engines, client, task)


async def finish(stack: Stack) -> None:
    await stack.client.aclose()
    stack.router.stop()
    await asyncio.wait_for(stack.task, 20)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (conditions of all kinds, in no loop's hands)
            await asyncio.sleep(0.005)


def chat(text: str = "hello", *, stream: bool = False, max_tokens: int = 3, **more: Any) -> dict[str, Any]:
    """Make the body of a chat request."""
    return {
        "model": "fake",
        "stream": stream,
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": text}],
    } | more


def events(text: str) -> list[str]:
    """Split a stream into the data of its events."""
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event]
