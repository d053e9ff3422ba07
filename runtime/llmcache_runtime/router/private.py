"""The private port: health, readiness, metrics and a debug page."""

from collections.abc import Sized
from typing import TYPE_CHECKING

import msgspec

from llmcache_runtime.policy import Fleet
from llmcache_runtime.router.connection import JSON, Client
from llmcache_runtime.router.engines import Engines
from llmcache_runtime.router.http1 import Headers, Request
from llmcache_runtime.router.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT: Headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
Answer = tuple[int, bytes, Headers]


class Private:
    """The handler of the private port. `stopping` turns readiness off."""

    def __init__(self, policy: Fleet, engines: Engines, metrics: Metrics, open_requests: Sized) -> None:
        self._policy = policy
        self._engines = engines
        self._metrics = metrics
        self._open = open_requests
        self.stopping = False
        self._pages: dict[str, Callable[[], Answer]] = {
            "/healthz": lambda: (200, b"ok\n", _TEXT),
            "/readyz": self._ready,
            "/metrics": self._render_metrics,
            "/debug/engines": self._debug_engines,
        }

    async def __call__(self, request: Request, client: Client) -> None:
        """Answer a request."""
        page = self._pages.get(request.path)
        if page is None or request.method != "GET":
            client.respond(404, b"known: " + ", ".join(self._pages).encode() + b"\n", _TEXT)
        else:
            client.respond(*page())

    def _ready(self) -> Answer:
        if self.stopping:
            return 503, b"stopping\n", _TEXT
        if not self._engines.synced:
            return 503, b"the endpoints are not known yet\n", _TEXT
        return 200, b"ok\n", _TEXT

    def _render_metrics(self) -> Answer:
        for engine in self._engines:
            self._metrics.running.labels(engine.name).set(len(engine.active))
        self._metrics.connections.set(len(self._open))
        return 200, self._metrics.render(), _TEXT

    def _debug_engines(self) -> Answer:
        seen = {engine.name: engine for engine in self._policy.engines}
        page = [
            {
                "id": engine.id,
                "name": engine.name,
                "address": engine.pool.authority.decode(),
                "serving": engine.endpoint.serving,
                "draining": engine.endpoint.draining,
                "ejected": engine.ejected,
                "ejections": engine.ejections,
                "answering": not engine.ejected or engine.alive_since is not None,
                "lastError": engine.last_error,
                "running": len(engine.active),
                "queuedTokens": round(seen[engine.id].queued) if engine.id in seen else 0,
            }
            for engine in self._engines
        ]
        return 200, msgspec.json.encode(page), JSON
