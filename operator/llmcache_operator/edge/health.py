"""Probes and metrics on one port: /healthz (the loop turns), /readyz (the API server answers), /metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from llmcache_operator.edge.metrics import Metrics


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(port: int, metrics: Metrics, why_unready: Callable[[], str]) -> AsyncIterator[None]:
    """Serve while the context lasts. `why_unready` answers an empty string when all is well.

    Raises `OSError` when the port is taken.
    """
    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", _healthz),
            web.get("/readyz", _readyz(why_unready)),
            web.get("/metrics", _metrics(metrics)),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        yield
    finally:
        await runner.cleanup()


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _readyz(why_unready: Callable[[], str]) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        why = why_unready()
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    return answer


def _metrics(metrics: Metrics) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer
