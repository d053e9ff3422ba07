"""Answers a client's request: routes it, picks an engine, relays the response, tries another engine if that fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from llmcache_runtime.policy import Pick, Policy, Ticket, request_key
from llmcache_runtime.router.access_log import AccessLog
from llmcache_runtime.router.admission import Admission
from llmcache_runtime.router.connection import JSON, Client
from llmcache_runtime.router.engines import Engine, Engines
from llmcache_runtime.router.errors import RouterError, error_body
from llmcache_runtime.router.headers import request_head
from llmcache_runtime.router.health import Health
from llmcache_runtime.router.http1 import Headers, Request
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.models import Models
from llmcache_runtime.router.paths import Route, path_label, route
from llmcache_runtime.router.relay import Relay
from llmcache_runtime.router.tracing import request_id
from llmcache_runtime.router.upstream import EngineError


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """How requests are forwarded. `session_header` is in lower case; `first_byte_timeout` in seconds."""

    session_header: bytes | None = None
    debug_headers: bool = False
    first_byte_timeout: float = 600.0


@dataclass(slots=True)
class Story:
    """What happened to a request, for the log and the metrics. Times are monotonic."""

    request: Request
    id: bytes
    started: float
    status: int = 0
    engine: str | None = None
    pick: Pick | None = None
    attempts: int = 0
    first: float | None = None
    last: float = 0.0
    cut: bool = False
    error: str | None = None
    tried: set[str] = field(default_factory=set)


class Proxy:
    """The handler of the public port."""

    def __init__(  # noqa: PLR0913 (the parts of the router meet here)
        self,
        policy: Policy,
        engines: Engines,
        health: Health,
        admission: Admission,
        models: Models,
        metrics: Metrics,
        log: AccessLog,
        settings: ProxySettings,
    ) -> None:
        self._policy = policy
        self._engines = engines
        self._health = health
        self._admission = admission
        self._models = models
        self._metrics = metrics
        self._log = log
        self._settings = settings
        self._now = time.monotonic
        self._routes: dict[Route, Callable[[Story, Client], Awaitable[None]]] = {
            Route.FORWARD: self._forward,
            Route.MODELS: self._list_models,
            Route.HEALTH: self._healthy,
        }

    async def __call__(self, request: Request, client: Client) -> None:
        """Answer a request."""
        story = Story(request, request_id(request.header(b"x-request-id")), self._now())
        try:
            await self._answer(story, client)
        except RouterError as error:
            self._fail(story, client, error)
        except asyncio.CancelledError:
            self._metrics.gone.inc()
            story.error = "client_gone"
            raise
        finally:
            self._record(story)

    async def _answer(self, story: Story, client: Client) -> None:
        request = story.request
        path = request.path
        answer = self._routes.get(chosen := route(request.method, path))
        if answer is not None:
            await answer(story, client)
        elif chosen is Route.WRONG_METHOD:
            raise RouterError(405, "method_not_allowed", f"{request.method} is not allowed here")
        else:
            raise RouterError(404, "not_found", "there is no such path, or it is closed to clients")

    async def _forward(self, story: Story, client: Client) -> None:
        settings = self._settings
        session = story.request.header(settings.session_header) if settings.session_header else None
        key = request_key(story.request.body, session)
        while True:
            try:
                pick = await self._admission.pick(key, story.tried)
            except RouterError as error:
                if story.error is None:
                    raise
                message = f"{error.message}; the last one tried: {story.error}"
                raise RouterError(error.status, error.code, message, retry_after=error.retry_after) from None
            try:
                await self._attempt(pick, story, client)
            except EngineError as error:
                story.error = str(error)
                self._metrics.retries.labels("unconnected" if error.unconnected else "failed").inc()
            else:
                return

    async def _attempt(self, pick: Pick, story: Story, client: Client) -> None:
        """Send the request to the engine picked. Raises EngineError if another one may still answer it."""
        engine = self._engines[pick.engine]
        story.engine, story.pick = engine.name, pick
        story.attempts += 1
        story.tried.add(pick.engine)
        self._metrics.engine_requests.labels(engine.name).inc()
        ticket = self._policy.on_start(pick, self._now())
        relay = self._relay(ticket, story, client)
        engine.active.add(relay)
        head = request_head(story.request, engine.pool.authority, story.id)
        try:
            await relay.run(engine.pool, head, story.request.body, self._settings.first_byte_timeout)
        except EngineError as error:
            if relay.status == 0:
                self._health.failed(engine, error)
            raise
        else:
            self._finished(relay, engine, story)
        finally:
            engine.active.discard(relay)
            self._policy.on_end(ticket, self._now())
            self._admission.released()

    def _relay(self, ticket: Ticket, story: Story, client: Client) -> Relay:
        extra: Headers = [(b"x-request-id", story.id)]
        if self._settings.debug_headers:
            tiers = ticket.pick.tiers
            extra.append((b"x-llmcache-engine", (story.engine or "").encode()))
            extra.append((b"x-llmcache-tiers", b"engine=%d, shared=%d, compute=%d" % tiers))
        streams = ticket.pick.key.streams

        def on_piece(now: float) -> None:
            if story.first is None:
                story.first = now
                self._policy.on_first_token(ticket, now)
                if streams:
                    self._metrics.ttft.observe(now - story.started)
            elif streams:
                self._metrics.gap.observe(now - story.last)
            story.last = now

        others = len(self._engines) > len(story.tried)
        return Relay(client, extra, on_piece, http10=story.request.http10, may_retry=others)

    def _finished(self, relay: Relay, engine: Engine, story: Story) -> None:
        story.status, story.cut = relay.status, relay.cut
        if relay.cut:
            self._metrics.cut.inc()
            self._health.failed(engine, EngineError("the engine was lost in the middle of a response"))
        else:
            self._health.succeeded(engine)

    async def _list_models(self, story: Story, client: Client) -> None:
        body = await self._models.merged(story.request.header(b"authorization"))
        story.status = 200
        client.respond(200, body, [*JSON, (b"x-request-id", story.id)])

    async def _healthy(self, story: Story, client: Client) -> None:
        story.status = 200 if any(e.available for e in self._engines) else 503
        client.respond(story.status, b"", [(b"x-request-id", story.id)])

    @staticmethod
    def _fail(story: Story, client: Client, error: RouterError) -> None:
        story.status, story.error = error.status, error.message
        headers = [*JSON, (b"x-request-id", story.id)]
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        client.respond(error.status, error_body(error.status, error.code, error.message), headers)

    def _record(self, story: Story) -> None:
        path = path_label(story.request.path)
        now = self._now()
        entry = {
            "time": round(now - story.started, 6),
            "id": story.id.decode(),
            "method": story.request.method,
            "path": path,
            "status": story.status,
            "engine": story.engine,
            "attempts": story.attempts,
        }
        pick = story.pick
        self._metrics.requests.labels(path, str(story.status)).inc()
        if pick is not None:
            self._metrics.picks.labels(pick.reason).inc()
            for tier, tokens in zip(pick.tiers._fields, pick.tiers, strict=True):
                self._metrics.tokens.labels(tier).inc(tokens)
            entry |= {"reason": pick.reason, "tokens": pick.tiers._asdict()}
        if story.first is not None:
            entry["ttft"] = round(story.first - story.started, 6)
        if story.error is not None:
            entry["error"] = story.error
        if story.cut:
            entry["cut"] = True
        self._log.write(entry)
