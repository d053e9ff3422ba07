"""HTTP faces of the fakes, on addresses of loopback that stand for pods' addresses."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from concurrent.futures import Future

    from e2e.causes.fake.cache_server import CacheServer
    from e2e.causes.fake.engine import Engine
    from e2e.causes.fake.router import Router

T = TypeVar("T")


if TYPE_CHECKING:
    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pages(Protocol):
    """What answers GET requests."""

    def __call__(self, path: str) -> str | None:
        """Return the body, or None where there is no such page."""


class Loop:
    """An event loop in a thread of its own, as a context."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def call(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine there and wait for what it returns."""
        return self.start(work).result()

    def start(self, work: Coroutine[object, object, T]) -> Future[T]:
        """Run a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    async def _cancel(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def serve_engine(engine: Engine, host: str, port: int) -> web.AppRunner:
    """Let an engine answer as vLLM does, as long as it is up."""

    async def complete(request: web.Request) -> web.Response:
        return web.json_response(await engine.complete(await request.json()))

    application = _application(engine, engine.page)
    application.router.add_post("/v1/completions", complete)
    application.router.add_post("/v1/chat/completions", complete)
    return await _listen(application, host, port)


async def serve_cache(server: CacheServer, host: str, port: int) -> web.AppRunner:
    """Let a cache server answer on its HTTP port, as long as it is up."""
    return await _listen(_application(server, server.answer), host, port)


async def serve_router(router: Router, host: str, port: int) -> web.AppRunner:
    """Let a router answer on its private port."""
    return await _listen(_application(router, router.page), host, port)


def _application(fake: Engine | CacheServer | Router, pages: Pages) -> web.Application:
    @web.middleware
    async def down(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not fake.up and request.transport is not None:
            request.transport.abort()
        return await handler(request)

    async def get(request: web.Request) -> web.Response:
        text = pages(request.path)
        return web.Response(text=text) if text is not None else web.Response(status=404)

    application = web.Application(middlewares=[down])
    application.router.add_get("/{path:.*}", get)
    return application


async def _listen(application: web.Application, host: str, port: int) -> web.AppRunner:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
