"""From an engine to a client: the response is passed on piece by piece, as it comes."""

import time
from collections.abc import Callable

from llmcache_runtime.router.connection import Client
from llmcache_runtime.router.errors import error_event
from llmcache_runtime.router.exchange import Exchange
from llmcache_runtime.router.http1 import Headers
from llmcache_runtime.router.upstream import EngineError

RETRYABLE = frozenset({502, 503, 504})
"""The engine did not begin: vLLM answers 503 when it refuses admission."""

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
_HELD_LIMIT = 1024 * 1024


class Relay(Exchange):
    """Streams a response to a client.

    Events of a stream (SSE) are passed on whole, so that an error event can follow wherever the engine dies.
    `on_piece` is called with the monotonic time for every piece of the body passed on.
    """

    def __init__(
        self, client: Client, extra: Headers, on_piece: Callable[[float], None], *, http10: bool, may_retry: bool
    ) -> None:
        super().__init__()
        self._client = client
        self._extra = extra
        self._on_piece = on_piece
        self._http10 = http10
        self._may_retry = may_retry
        self._now = time.monotonic
        self._pieces: list[bytes] = []
        self._events = False
        self._chunked = False
        self._until_close = False
        self.cut = False

    def head(self) -> None:
        """Send the head on, unless another engine may give a better answer."""
        if self.status in RETRYABLE and self._may_retry:
            self.fail(EngineError(f"the engine answered {self.status}"))
            return
        extra = self._extra
        names = dict(self.headers)
        if b"content-length" not in names and self.status not in {204, 304}:
            self._chunked, self._until_close = not self._http10, self._http10
            if self._chunked:
                extra = [*extra, (b"transfer-encoding", b"chunked")]
        self._events = names.get(b"content-type", b"").startswith(b"text/event-stream")
        self._client.begin(self.status, self.headers, extra, self.connection)

    def body(self, body: bytes) -> None:
        """Keep a part of the body until all bytes at hand are parsed."""
        self._pieces.append(body)

    def fed(self) -> None:
        """Pass on what came; of a stream of events, whole events only."""
        if not self._pieces:
            self._client.flush()
            return
        data = self._pieces.pop() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._events and not data.endswith(_EVENT_ENDS) and len(data) < _HELD_LIMIT:
            end = max((data.rfind(mark) + len(mark) for mark in _EVENT_ENDS if mark in data), default=0)
            data, rest = data[:end], data[end:]
            self._pieces.append(rest)
        if data:
            self._send(data)

    def ended(self) -> None:
        """End the response."""
        if self._pieces:
            self._send(b"".join(self._pieces))
        if self._chunked:
            self._client.write(b"0\r\n\r\n")
        self._client.finish(close=self._until_close)

    def lost(self, error: EngineError) -> bool:
        """End a response that has begun: a stream of events with an error event, anything else by cutting it short."""
        if not self._client.began:
            return False
        self.cut = True
        if self._events:
            self._pieces.clear()
            self._send(error_event("engine_lost", f"the engine was lost in the middle of the response: {error}"))
            if self._chunked:
                self._client.write(b"0\r\n\r\n")
            self._client.finish(close=True)
        else:
            self._client.abort()
        return True

    def _send(self, data: bytes) -> None:
        self._client.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self._on_piece(self._now())
