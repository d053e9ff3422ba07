"""Connections to engines: one exchange at a time on each, kept alive between them."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

if TYPE_CHECKING:
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


class Exchange(ABC):
    """One request to an engine and its response, parsed as it comes. Subclasses say what becomes of it."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self._result: asyncio.Future[None] | None = None
        self._size = 0
        self._complete = False
        self._overrun = False
        self.status = 0
        self.headers: Headers = []
        self.connection: Connection | None = None

    async def run(self, pool: "Pool", head: bytes, body: bytes, timeout: float) -> None:  # noqa: ASYNC109
        """Send a request and wait until the response has ended.

        `timeout` is for the head of the response, in seconds. Raises EngineError, unless `lost` of the subclass dealt
        with the loss.
        """
        kept = pool.idle()
        if kept is not None:
            try:
                await self._over(kept, head, body, timeout)
            except StaleConnectionError:
                await self._over(await pool.connect(), head, body, timeout)
        else:
            await self._over(await pool.connect(), head, body, timeout)

    async def _over(self, connection: "Connection", head: bytes, body: bytes, timeout: float) -> None:  # noqa: ASYNC109
        loop = asyncio.get_running_loop()
        self._result = loop.create_future()
        expiry = loop.call_later(timeout, self._expire, timeout)
        try:
            connection.send(self, head, body)
            await self._result
        finally:
            expiry.cancel()
            self._abort()

    def _expire(self, timeout: float) -> None:
        if self.status == 0:
            self.fail(EngineError(f"no response within {timeout:g} s"))

    def feed(self, data: bytes) -> None:
        """Read bytes of the response."""
        if self.status == 0:
            self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.fail(EngineError(f"the engine's response is malformed: {error}"))
            return
        if self.status == 0 and self._size > _HEAD_LIMIT:
            self.fail(EngineError(f"the head of the engine's response is larger than {_HEAD_LIMIT} bytes"))
            return
        if self.connection is None:
            return
        self.fed()
        if self._complete:
            connection, self.connection = self.connection, None
            connection.release(reuse=self._parser.should_keep_alive() and not self._overrun)
            self._succeed()

    def on_message_begin(self) -> None:
        """Take note of bytes after the end of the response."""
        self._overrun = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are dropped."""
        if self.status == 0:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Take the status. Interim responses are an error: none was asked for."""
        if self._overrun:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.fail(EngineError(f"the engine sent an interim response ({self.status})"))
        else:
            self.head()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._overrun and self.connection is not None:
            self.body(body)

    def on_message_complete(self) -> None:
        """Take note of the end."""
        self._complete = True

    def eof(self) -> None:
        """Take note that the engine closed, which is how a response without a length ends."""
        framed = any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)
        if self.status and not framed:
            self._succeed()
        elif self.connection is not None and self.connection.used and self._size == 0:
            self.fail(StaleConnectionError("the engine had closed the connection"))
        else:
            self.fail(EngineError("the engine closed the connection"))

    def fail(self, error: EngineError) -> None:
        """End the exchange with an error, which is raised unless `lost` deals with it."""
        self._abort()
        if self._result is not None and not self._result.done():
            if self.lost(error):
                self._result.set_result(None)
            else:
                self._result.set_exception(error)

    def _succeed(self) -> None:
        if self._result is not None and not self._result.done():
            self.ended()
            self._result.set_result(None)

    def _abort(self) -> None:
        """Close a connection that is still in use, which makes vLLM abort the request."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    @abstractmethod
    def head(self) -> None:
        """Act on the head; may `fail`."""

    @abstractmethod
    def body(self, body: bytes) -> None:
        """Take a part of the body."""

    @abstractmethod
    def fed(self) -> None:
        """Act on what the last bytes held."""

    @abstractmethod
    def ended(self) -> None:
        """Act on the end of the response."""

    @abstractmethod
    def lost(self, error: EngineError) -> bool:
        """Act on a response that can't be completed; True if nobody else needs to know."""


class Connection(asyncio.Protocol):
    """A connection to an engine. Bytes that nobody asked for end it."""

    def __init__(self, on_idle: Callable[["Connection"], None], on_lost: Callable[["Connection"], None]) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self.idle_since = 0.0
        self.used = False
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports have the methods of asyncio's without being derived from them.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange, and whoever keeps this connection."""
        self.closed = True
        self._on_lost(self)
        del exc
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.eof()

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the exchange."""
        if self._exchange is None:
            self.close()
        else:
            self._exchange.feed(data)

    def send(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """Start an exchange."""
        self._exchange = exchange
        exchange.connection = self
        self._transport.write(head)
        if body:
            self._transport.write(body)

    def release(self, *, reuse: bool) -> None:
        """End the exchange; keep the connection if the engine does."""
        self._exchange = None
        self._transport.resume_reading()
        if reuse and not self.closed:
            self.used = True
            self._on_idle(self)
        else:
            self.close()

    def pause(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def close(self) -> None:
        """Close at once, whatever is under way."""
        self.closed = True
        self._exchange = None
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
