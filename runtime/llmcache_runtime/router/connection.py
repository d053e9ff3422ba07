"""A client's connection: requests in, one at a time; responses out, with back-pressure; limits for slow clients."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, cast

from llmcache_runtime.router.errors import error_body
from llmcache_runtime.router.headers import response_head
from llmcache_runtime.router.http1 import FramingError, Headers, Limits, Request, RequestReader

_log = logging.getLogger(__name__)

JSON: Headers = [(b"content-type", b"application/json")]
_EARLY_LIMIT = 64 * 1024
_LINGER = 2.0
_SLOWEST = 1000.0
"""Bytes a second below which a body is too slow, once the first part of it has come."""


class Source(Protocol):
    """What feeds a response; it is paused while the client reads slower than it writes."""

    def pause(self) -> None:
        """Stop feeding."""

    def resume(self) -> None:
        """Feed again."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client may keep a connection waiting, in seconds."""

    idle: float = 75.0  # between two requests
    head: float = 10.0  # to send a head
    body: float = 30.0  # to send more of a body
    write: float = 60.0  # to read more of a response


Handler = Callable[[Request, "Client"], Awaitable[None]]


class Client(asyncio.Protocol):
    """One connection. `handler` answers each request through `respond`, or `begin`, `write` and `finish`.

    A handler is cancelled when its client goes away.
    """

    def __init__(self, handler: Handler, limits: Limits, patience: Patience, connections: "Connections") -> None:
        self._handler = handler
        self._patience = patience
        self._connections = connections
        self._reader = RequestReader(limits, self._continue)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self._request: Request | None = None
        self._early = self._head = b""
        self._refused = False
        self._source: Source | None = None
        self.began = False
        self.deadline = self._loop.time() + patience.head

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._request is not None

    @property
    def http10(self) -> bool:
        """Whether the request is of HTTP/1.0, which knows no chunks."""
        return self._request is not None and self._request.http10

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports have the methods of asyncio's without being derived from them.
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is being done for this client."""
        del exc
        self._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Read a request, or keep what comes before its predecessor is answered."""
        if self._refused:
            return
        if self._request is not None:
            self._early += data
            if len(self._early) > _EARLY_LIMIT:
                self._transport.pause_reading()
            return
        was_started, was_in_body = self._reader.started, self._reader.in_body
        try:
            request = self._reader.feed(data)
        except FramingError as error:
            self._refuse(error)
            return
        if request is not None:
            self._start(request)
        elif self._reader.in_body:
            # Within a body every byte buys a little time, so that a trickle can't hold the connection for ever.
            earned = self.deadline + len(data) / _SLOWEST if was_in_body else float("inf")
            self.deadline = min(self._loop.time() + self._patience.body, earned)
        elif not was_started:
            self.deadline = self._loop.time() + self._patience.head

    def pause_writing(self) -> None:
        """Stop the source: the client's buffers are full."""
        self.deadline = self._loop.time() + self._patience.write
        if self._source is not None:
            self._source.pause()

    def resume_writing(self) -> None:
        """Let the source go on."""
        self.deadline = float("inf")
        if self._source is not None:
            self._source.resume()

    def _continue(self) -> None:
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _start(self, request: Request) -> None:
        self._request = request
        self.began = False
        self.deadline = float("inf")
        self._task = self._loop.create_task(self._handle(request))

    async def _handle(self, request: Request) -> None:
        try:
            await self._handler(request, self)
        except Exception:  # noqa: BLE001
            # A bug must end neither the router nor in a client that waits for ever.
            _log.exception("a request failed")
            if self.busy and not self.began:
                self.respond(500, error_body(500, "internal_error", "the router failed"), JSON)
            else:
                self.abort()

    def _refuse(self, error: FramingError) -> None:
        body = error_body(error.status, "bad_request", error.message)
        extra = [*JSON, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        self._transport.write(response_head(error.status, [], extra) + body)
        self._refused = True
        if self._transport.can_write_eof():
            # Closing while the client still sends would reset the connection, and the answer could be lost with it.
            self._transport.write_eof()
            self.deadline = self._loop.time() + _LINGER
        else:
            self._transport.close()

    def respond(self, status: int, body: bytes, headers: Headers) -> None:
        """Send a whole response."""
        self.begin(status, [*headers, (b"content-length", b"%d" % len(body))], [])
        self.write(body)
        self.finish()

    def begin(self, status: int, headers: Headers, extra: Headers, source: Source | None = None) -> None:
        """Begin a response whose body `source` will feed."""
        assert self._request is not None  # noqa: S101 (only handlers call this)
        self.began = True
        self._source = source
        if not self._request.keep_alive or self._connections.closing:
            self._request.keep_alive = False
            extra = [*extra, (b"connection", b"close")]
        elif self._request.http10:
            extra = [*extra, (b"connection", b"keep-alive")]
        self._head = response_head(status, headers, extra)

    def write(self, data: bytes) -> None:
        """Send bytes of the body, the first of them together with the head."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send the head if that has not been done: there is no body yet."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def finish(self, *, close: bool = False) -> None:
        """End the response, and take the next request unless the connection is to close."""
        self.flush()
        request, self._request, self._source, self._task = self._request, None, None, None
        if close or request is None or not request.keep_alive or self._connections.closed:
            self.deadline = self._loop.time() + self._patience.write
            self._transport.close()
            return
        self.deadline = self._loop.time() + self._patience.idle
        if self._early:
            early, self._early = self._early, b""
            self._transport.resume_reading()
            self._loop.call_soon(self.data_received, early)

    def close_if_idle(self) -> None:
        """Close unless a request is being read or answered."""
        if self._request is None and not self._reader.started:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()


class Connections:
    """The open connections of a listener, with their deadlines and their number.

    closing: answers tell clients to come back on another connection; closed: the connection ends with its answer.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Client] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.closing = self.closed = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def busy(self) -> int:
        """How many are being answered."""
        return sum(client.busy for client in self._open)

    def add(self, client: Client) -> None:
        """Take a connection, or cut it when there are too many."""
        if len(self._open) >= self._limit:
            client.abort()
        else:
            self._open.add(client)
            self._empty.clear()

    def discard(self, client: Client) -> None:
        """Forget a connection."""
        self._open.discard(client)
        if not self._open:
            self._empty.set()

    async def empty(self) -> None:
        """Wait until none is open."""
        await self._empty.wait()

    def close_idle(self) -> None:
        """Close what does nothing, now and after each answer from here on."""
        self.closing = self.closed = True
        for client in tuple(self._open):
            client.close_if_idle()

    def abort_all(self) -> None:
        """Cut all that are left."""
        for client in tuple(self._open):
            client.abort()

    async def sweep(self, interval: float = 1.0) -> None:
        """Cut connections past their deadline, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(interval)
            now = loop.time()
            for client in [c for c in self._open if c.deadline < now]:
                client.abort()
