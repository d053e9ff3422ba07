"""Sends a request to the engine that the policy picks, and to another one while the client has seen nothing yet."""

import time
from dataclasses import dataclass

from llmcache_runtime.policy import Pick, Policy, Ticket, request_key
from llmcache_runtime.router.admission import Admission
from llmcache_runtime.router.connection import Client
from llmcache_runtime.router.deadlines import Deadlines
from llmcache_runtime.router.engines import Engine, Engines
from llmcache_runtime.router.errors import RouterError
from llmcache_runtime.router.headers import request_head
from llmcache_runtime.router.health import Health
from llmcache_runtime.router.http1 import Headers
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.relay import Relay
from llmcache_runtime.router.story import Story
from llmcache_runtime.router.upstream import EngineError


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """How requests are forwarded. `session_header` is in lower case; `first_byte_timeout` in seconds."""

    session_header: bytes | None = None
    debug_headers: bool = False
    first_byte_timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Picks, relays, tries again."""

    policy: Policy
    engines: Engines
    health: Health
    admission: Admission
    deadlines: Deadlines
    metrics: Metrics
    settings: ForwardSettings

    async def __call__(self, story: Story, client: Client) -> None:
        """Answer a request. Each engine is tried once at most. Raises RouterError."""
        header = self.settings.session_header
        key = request_key(story.request.body, story.request.fields.get(header) if header else None)
        while True:
            try:
                pick = await self.admission.pick(key, story.tried)
            except RouterError as error:
                if story.error is None:
                    raise
                message = f"{error.message}; the last one tried: {story.error}"
                raise RouterError(error.status, error.code, message, retry_after=error.retry_after) from None
            try:
                await self._attempt(pick, story, client)
            except EngineError as error:
                story.error = str(error)
                self.metrics.retries.add(("unconnected" if error.unconnected else "failed",))
            else:
                return

    async def _attempt(self, pick: Pick, story: Story, client: Client) -> None:
        """Send the request to the engine picked. Raises EngineError if another one may still answer it."""
        engine = self.engines[pick.engine]
        story.engine, story.pick = engine.name, pick
        story.tried.add(pick.engine)
        self.metrics.engine_requests.add((engine.name,))
        ticket = self.policy.on_start(pick, time.monotonic())
        relay = self._relay(engine, ticket, story, client)
        engine.active.add(relay)
        self.deadlines.add(relay)
        head = request_head(story.request, engine.pool.authority, story.id)
        try:
            await relay.run(engine.pool, head, story.request.body)
        except EngineError as error:
            if relay.status == 0:
                self.health.failed(engine, error)
            raise
        else:
            self._ended(relay, engine, story)
        finally:
            engine.active.discard(relay)
            self.deadlines.discard(relay)
            self.policy.on_end(ticket, time.monotonic())
            self.admission.released()

    def _relay(self, engine: Engine, ticket: Ticket, story: Story, client: Client) -> Relay:
        latencies = self.metrics.latencies(engine.name, ticket.pick)

        def on_first(now: float) -> None:
            story.first = now
            self.policy.on_first_token(ticket, now)
            if latencies is not None:
                latencies.first.observe(now - story.started)

        others = len(self.engines) > len(story.tried)
        extra = self._extra(ticket, story)
        return Relay(client, extra, on_first, latencies and latencies.gap, may_retry=others)

    def _extra(self, ticket: Ticket, story: Story) -> Headers:
        extra = [(b"x-request-id", story.id)]
        if self.settings.debug_headers and story.engine:
            extra.append((b"x-llmcache-engine", story.engine.encode()))
            extra.append((b"x-llmcache-tiers", b"engine=%d, shared=%d, compute=%d" % ticket.pick.tiers))
        return extra

    def _ended(self, relay: Relay, engine: Engine, story: Story) -> None:
        story.status, story.cut, story.error = relay.status, relay.cut, None
        if relay.cut:
            story.error = "the engine was lost in the middle of the response"
            self.metrics.cut.add()
            self.health.failed(engine, EngineError(story.error))
        else:
            self.health.succeeded(engine)
