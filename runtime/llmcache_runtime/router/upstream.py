"""Connections to engines: one exchange at a time on each, kept alive between them."""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from llmcache_runtime.router.http1 import Headers

IDLE_LIMIT = 4.0
"""Seconds; vLLM closes after 5 (VLLM_HTTP_TIMEOUT_KEEP_ALIVE), and who closes first can't lose a request."""

_HEAD_LIMIT = 64 * 1024


class EngineError(Exception):
    """An engine did not answer as it should.

    unconnected: it took no connection; refused: because nobody listens, so its process is gone.
    """

    def __init__(self, message: str, *, unconnected: bool = False, refused: bool = False) -> None:
        super().__init__(message)
        self.unconnected = unconnected or refused
        self.refused = refused


class StaleConnectionError(EngineError):
    """A kept connection was closed before a byte of the response came; a new one may do."""


class Receiver(Protocol):
    """What a connection tells of the response to the request that it sent."""

    def begun(self, status: int, headers: Headers) -> None:
        """Take the head."""

    def fed(self, pieces: list[bytes]) -> None:
        """Take the parts of the body that came together; there may be none. The list is used again."""

    def chunk(self, data: bytes) -> bool:
        """Take bytes that begin with a chunk, framing included, if they are exactly one; False to have them parsed."""

    def succeed(self) -> None:
        """Take note of a good end; the connection is no longer the receiver's."""

    def fail(self, error: EngineError) -> None:
        """Take note of a bad end."""


class _OverrunError(Exception):
    """A second response to one request."""


class Connection(asyncio.Protocol):
    """A connection to an engine: one request at a time. Bytes that nobody asked for end it."""

    def __init__(self, on_idle: Callable[["Connection"], None], on_lost: Callable[["Connection"], None]) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._receiver: Receiver | None = None
        self._headers: Headers = []
        self._size = 0
        self._status = 0
        self._complete = self._keep_alive = self._kept = self._between_chunks = False
        self.idle_since = 0.0
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports have the methods of asyncio's without being derived from them.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, receiver: Receiver, head: bytes, body: bytes) -> None:
        """Send a request, whose response goes to `receiver`."""
        self._receiver = receiver
        self._headers = []
        self._size = self._status = 0
        self._complete = self._between_chunks = False
        self._transport.writelines((head, body) if body else (head,))

    def data_received(self, data: bytes) -> None:
        """Read bytes of the response."""
        receiver = self._receiver
        if receiver is None:
            self.close()
        elif not (self._between_chunks and receiver.chunk(data)):
            self._parse(data, receiver)

    def _parse(self, data: bytes, receiver: Receiver) -> None:
        if self._status == 0:
            self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._complete:
                receiver.fail(EngineError(f"the engine's response is malformed: {error}"))
            self._keep_alive = False
        self._between_chunks = self._between_chunks and data.endswith(b"\r\n")
        if self._receiver is None:
            self._pieces.clear()
        elif self._status == 0 and self._size > _HEAD_LIMIT:
            receiver.fail(EngineError(f"the head of the engine's response is larger than {_HEAD_LIMIT} bytes"))
        else:
            receiver.fed(self._pieces)
            self._pieces.clear()
            if self._complete:
                self._end(receiver)

    def _end(self, receiver: Receiver) -> None:
        self._receiver = None
        self._transport.resume_reading()
        if self._keep_alive and not self.closed:
            self._kept = True
            self._on_idle(self)
        else:
            self.close()
        receiver.succeed()

    def on_message_begin(self) -> None:
        """Stop at bytes after the end of the response; the connection is not used again."""
        if self._complete:
            raise _OverrunError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are dropped."""
        if self._status == 0:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Take the status. Interim responses are an error: none was asked for."""
        if self._receiver is None:
            return
        self._status = self._parser.get_status_code()
        # Asked here because llhttp forgets it at the end of the message.
        self._keep_alive = self._parser.should_keep_alive()
        if self._status < 200:
            self._receiver.fail(EngineError(f"the engine sent an interim response ({self._status})"))
        else:
            self._receiver.begun(self._status, self._headers)

    def on_chunk_header(self) -> None:
        """Take note of the beginning of a chunk."""
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        """Take note of its end."""
        self._between_chunks = True

    def on_message_complete(self) -> None:
        """Take note of the end."""
        self._complete = True
        self._between_chunks = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the receiver, and whoever keeps this connection."""
        del exc
        self.closed = True
        self._on_lost(self)
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        framed = any(name in {b"content-length", b"transfer-encoding"} for name, _ in self._headers)
        if self._status and not framed:
            receiver.succeed()  # a response without a length ends with its connection
        elif self._kept and self._size == 0:
            receiver.fail(StaleConnectionError("the engine had closed the connection"))
        else:
            receiver.fail(EngineError("the engine closed the connection"))

    def pause(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def close(self) -> None:
        """Close at once, whatever is under way."""
        self.closed = True
        self._receiver = None
        self._transport.abort()


class Pool:
    """The connections to one engine; idle ones are reused, the last used first."""

    def __init__(self, host: str, port: int, connect_timeout: float) -> None:
        self.host = host
        self.port = port
        self._connect_timeout = connect_timeout
        self.authority = f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode()
        self._idle: list[Connection] = []
        self._loop = asyncio.get_running_loop()

    def idle(self) -> Connection | None:
        """Take a kept connection that the engine has surely not closed yet."""
        oldest = self._loop.time() - IDLE_LIMIT
        while self._idle:
            connection = self._idle.pop()
            if connection.closed:
                continue
            if connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def connect(self) -> Connection:
        """Open a connection. Raises EngineError."""
        make = lambda: Connection(self._keep, self._drop)  # noqa: E731
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await self._loop.create_connection(make, self.host, self.port)
        except TimeoutError as error:
            raise EngineError(f"no connection within {self._connect_timeout:g} s", unconnected=True) from error
        except ConnectionRefusedError as error:
            raise EngineError("connection refused", refused=True) from error
        except OSError as error:
            raise EngineError(f"no connection: {error}", unconnected=True) from error
        return connection

    def close(self) -> None:
        """Close the idle connections; busy ones end with their exchange."""
        while self._idle:
            self._idle.pop().close()

    def _keep(self, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
