"""Answers the requests of the public port: routes them, says no where it must, and records what happened."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from llmcache_runtime.router.access_log import AccessLog
from llmcache_runtime.router.auth import ApiKeys
from llmcache_runtime.router.connection import JSON, Client
from llmcache_runtime.router.engines import Engines
from llmcache_runtime.router.errors import RouterError, error_body
from llmcache_runtime.router.forward import Forwarder
from llmcache_runtime.router.http1 import Request
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.models import Models
from llmcache_runtime.router.paths import Route, open_route
from llmcache_runtime.router.story import Story
from llmcache_runtime.router.tracing import request_id


@dataclass(frozen=True, slots=True)
class Proxy:
    """The handler of the public port."""

    forward: Forwarder
    models: Models
    engines: Engines
    metrics: Metrics
    log: AccessLog
    keys: ApiKeys | None = None
    opened: AbstractSet[str] = frozenset()

    async def __call__(self, request: Request, client: Client) -> None:
        """Answer a request."""
        story = Story(request, request_id(request.fields.get(b"x-request-id")), time.monotonic())
        try:
            handler = self._handler(request)
            if self.keys is not None and handler != self._healthy:
                self.keys.check(request.fields.pop(b"authorization", None))
                request.headers = [header for header in request.headers if header[0] != b"authorization"]
            await handler(story, client)
        except RouterError as error:
            self._fail(story, client, error)
        except asyncio.CancelledError:
            story.error = "the client went away"
            self.metrics.gone.add()
            raise
        finally:
            story.count(self.metrics)
            self.log.write(story.entry(time.monotonic()))

    def _handler(self, request: Request) -> Callable[[Story, Client], Awaitable[None]]:
        chosen = open_route(request.method, request.path, self.opened)
        if chosen is Route.MODELS:
            return self._list_models
        return self._healthy if chosen is Route.HEALTH else self.forward

    async def _list_models(self, story: Story, client: Client) -> None:
        body = await self.models.merged(story.request.fields.get(b"authorization"))
        story.status = 200
        client.respond(200, body, [*JSON, (b"x-request-id", story.id)])

    async def _healthy(self, story: Story, client: Client) -> None:
        story.status = 200 if any(e.available for e in self.engines) else 503
        client.respond(story.status, b"", [(b"x-request-id", story.id)])

    @staticmethod
    def _fail(story: Story, client: Client, error: RouterError) -> None:
        story.status, story.error = error.status, error.message
        headers = [*JSON, (b"x-request-id", story.id)]
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        client.respond(error.status, error_body(error.status, error.code, error.message), headers)
