"""One HTTP request as a gateway tells of it: message in, answers out."""

import time
from collections.abc import Awaitable, Callable, Iterable

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse

from llmcache_runtime.picker import messages
from llmcache_runtime.picker.chooser import Choice, Chooser
from llmcache_runtime.router.access_log import Entry
from llmcache_runtime.router.errors import RouterError
from llmcache_runtime.router.http1 import Request
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.paths import open_route
from llmcache_runtime.router.settings import Settings
from llmcache_runtime.router.story import Story
from llmcache_runtime.router.tracing import request_id

Answers = Iterable[ProcessingResponse]

_HELD = frozenset({ProcessingMode.BUFFERED, ProcessingMode.BUFFERED_PARTIAL})
_DUPLEX = ProcessingMode.FULL_DUPLEX_STREAMED


class Exchange:
    """The state of one request.

    The engine is chosen once the body is known: in modes BUFFERED and FULL_DUPLEX_STREAMED with the body, which the
    gateway holds back until then; in the others with the head alone, by load. `finished`: no more messages will come
    that want an answer, though the response may still be on its way.
    """

    def __init__(self, chooser: Chooser, metrics: Metrics, settings: Settings) -> None:
        self._chooser = chooser
        self._metrics = metrics
        self._settings = settings
        self._request_mode = self._response_mode = ProcessingMode.NONE
        self._subset: frozenset[bytes] | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._choice: Choice | None = None
        self.story: Story | None = None
        self._last_piece = 0.0
        self.finished = False
        self._handlers: dict[str, Callable[[ProcessingRequest], Awaitable[Answers]]] = {
            "request_headers": self._request_headers,
            "request_body": self._request_body,
            "request_trailers": self._request_trailers,
            "response_headers": self._response_headers,
            "response_body": self._response_body,
            "response_trailers": self._response_trailers,
        }

    async def take(self, message: ProcessingRequest) -> Answers:
        """Take a message; give the answers to it, in order."""
        handler = self._handlers.get(message.WhichOneof("request") or "")
        if handler is None:
            return ()
        try:
            return await handler(message)
        except RouterError as error:
            return self._refuse(error)

    def _refuse(self, error: RouterError) -> Answers:
        answer = messages.refusal(error)
        self.finished = True
        if self.story is not None:
            self.story.status, self.story.error = answer.immediate_response.status.code, error.message
        return (answer,)

    async def _request_headers(self, message: ProcessingRequest) -> Answers:
        fields = messages.header_fields(message.request_headers)
        path = fields.get(b":path", b"").partition(b"?")[0].decode("latin-1")
        request = Request(method=fields.get(b":method", b"").decode("latin-1"), path=path, fields=fields)
        self.story = Story(request, request_id(fields.get(b"x-request-id")), time.monotonic())
        self._request_mode = message.protocol_config.request_body_mode
        self._response_mode = message.protocol_config.response_body_mode
        self._subset = messages.subset(message)
        # The engines' admin paths stay closed also behind a gateway whose routes let everything pass.
        open_route(request.method, request.path, self._settings.admin_paths)
        if message.request_headers.end_of_stream:
            return (await self._chosen("request_headers"),)
        if self._request_mode in _HELD:
            return (messages.go_on("request_headers"),)
        if self._request_mode == _DUPLEX:
            return ()
        return (await self._chosen("request_headers"),)

    async def _chosen(self, kind: str) -> ProcessingResponse:
        story, header = self.story, self._settings.forward.session_header
        assert story is not None  # noqa: S101 (the head comes first)
        body = b"".join(self._body)
        session = story.request.fields.get(header) if header else None
        sees_body = self._response_mode != ProcessingMode.NONE
        choice = await self._chooser.choose(body, session, self._subset, sees_body=sees_body)
        self._note(choice)
        return messages.to_endpoints(kind, choice.endpoints)

    def _note(self, choice: Choice) -> None:
        self._choice = choice
        if self.story is not None:
            self.story.engine, self.story.pick = choice.engine.name, choice.ticket.pick
            self.story.tried.add(choice.engine.id)

    async def _request_body(self, message: ProcessingRequest) -> Answers:
        part = message.request_body
        if self._choice is not None:
            return (messages.go_on("request_body"),)
        self._body.append(part.body)
        self._size += len(part.body)
        if self._size > self._settings.limits.body:
            raise RouterError(413, "too_large", f"the body is larger than {self._settings.limits.body} bytes")
        if self._request_mode != _DUPLEX:
            return (await self._chosen("request_body"),)
        return await self._released(end=True) if part.end_of_stream else ()

    async def _released(self, *, end: bool) -> Answers:
        """Choose, and hand head and body back to a gateway that streams them."""
        head = await self._chosen("request_headers")
        body, self._body = b"".join(self._body), []
        return [head, *messages.pieces("request_body", body, end=end)]

    async def _request_trailers(self, message: ProcessingRequest) -> Answers:
        del message
        held = [] if self._choice is not None else await self._released(end=False)
        return [*held, messages.go_on("request_trailers")]

    async def _response_headers(self, message: ProcessingRequest) -> Answers:
        fields = messages.header_fields(message.response_headers)
        status = int(fields.get(b":status", b"0"))
        if self.story is not None:
            self.story.status = status
        if self._choice is not None:
            address = messages.served(message)
            if address is not None:
                self._note(self._chooser.served_by(self._choice, address))
            self._chooser.answered(self._choice, status)
        no_body = self._response_mode == ProcessingMode.NONE
        self.finished = no_body or message.response_headers.end_of_stream
        return (messages.with_headers(self._debug_headers()),)

    def _debug_headers(self) -> list[tuple[bytes, bytes]]:
        if self._choice is None or not self._settings.forward.debug_headers:
            return []
        tiers = b"engine=%d, shared=%d, compute=%d" % self._choice.ticket.pick.tiers
        return [(b"x-llmcache-engine", self._choice.engine.name.encode()), (b"x-llmcache-tiers", tiers)]

    async def _response_body(self, message: ProcessingRequest) -> Answers:
        part = message.response_body
        self._note_piece(time.monotonic())
        self.finished = part.end_of_stream
        if self._response_mode == _DUPLEX:
            return messages.pieces("response_body", part.body, end=part.end_of_stream)
        return (messages.go_on("response_body"),)

    def _note_piece(self, now: float) -> None:
        story, choice = self.story, self._choice
        if story is None or choice is None:
            return
        if story.first is None:
            story.first = now
            self._chooser.first_token(choice)
            if choice.latencies is not None:
                choice.latencies.first.observe(now - story.started)
        elif choice.latencies is not None:
            choice.latencies.gap.observe(now - self._last_piece)
        self._last_piece = now

    async def _response_trailers(self, message: ProcessingRequest) -> Answers:
        del message
        self.finished = True
        return (messages.go_on("response_trailers"),)

    def close(self) -> Entry | None:
        """End the books of this request; give its entry for the log."""
        if self._choice is not None:
            unseen = self.story is not None and self.story.first is None
            if unseen and 200 <= self._choice.status < 300:
                self._chooser.first_token(self._choice)
            self._chooser.ended(self._choice)
        if self.story is None:
            return None
        if self.story.status == 0:
            self.story.error = "the client went away, or the gateway reached no engine"
            self._metrics.gone.add()
        self.story.count(self._metrics)
        return self.story.entry(time.monotonic())
