"""From an engine to a client: the response is passed on piece by piece, as it comes."""

import time
from collections.abc import Callable

from llmcache_runtime.router.chunks import is_one_event
from llmcache_runtime.router.connection import Client
from llmcache_runtime.router.errors import error_event
from llmcache_runtime.router.exchange import Exchange
from llmcache_runtime.router.histogram import Buckets
from llmcache_runtime.router.http1 import Headers
from llmcache_runtime.router.upstream import EngineError

RETRYABLE = frozenset({502, 503, 504})
"""The engine did not begin: vLLM answers 503 when it refuses admission."""

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
_HELD_LIMIT = 1024 * 1024


class Relay(Exchange):
    """Streams a response to a client.

    Events of a stream (SSE) are passed on whole, so that an error event can follow wherever the engine dies.
    `on_first` is called with the monotonic time of the first piece of the body passed on; `gaps` takes the seconds
    between any two after that. `expires` is when the engine must have begun to answer, in monotonic seconds.
    """

    def __init__(
        self,
        client: Client,
        extra: Headers,
        on_first: Callable[[float], None],
        gaps: Buckets | None,
        *,
        may_retry: bool,
    ) -> None:
        super().__init__()
        self._client = client
        self._extra = extra
        self._on_first = on_first
        self._gaps = gaps
        self._may_retry = may_retry
        self._now = time.monotonic
        self._last = 0.0
        self._held = b""
        self._events = False
        self._chunked = False
        self._until_close = False
        self.cut = False

    def head(self) -> None:
        """Send the head on, unless another engine may give a better answer."""
        if self.status in RETRYABLE and self._may_retry:
            self.fail(EngineError(f"the engine answered {self.status}"))
            return
        fields = dict(self.headers)
        if b"content-length" not in fields and self.status not in {204, 304}:
            self._chunked, self._until_close = not self._client.http10, self._client.http10
            if self._chunked:
                self._extra.append((b"transfer-encoding", b"chunked"))
        self._events = fields.get(b"content-type", b"").startswith(b"text/event-stream")
        self._client.begin(self.status, self.headers, self._extra, self.connection)

    def chunk(self, data: bytes) -> bool:
        """Pass a chunk on as it is, if what the client gets is chunked too and the chunk ends with an event."""
        if self._held or not (self._chunked and is_one_event(data)):
            return False
        self._client.write(data)
        now = self._now()
        if self._gaps is not None:
            self._gaps.observe(now - self._last)
        self._last = now
        return True

    def fed(self, pieces: list[bytes]) -> None:
        """Pass on what came; of a stream of events, whole events only."""
        if not pieces:
            self._client.flush()
            return
        if self._held:
            pieces.insert(0, self._held)
            self._held = b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._events and not data.endswith(_EVENT_ENDS) and len(data) < _HELD_LIMIT:
            end = max((data.rfind(mark) + len(mark) for mark in _EVENT_ENDS if mark in data), default=0)
            data, self._held = data[:end], data[end:]
        if data:
            self._send(data)

    def ended(self) -> None:
        """End the response."""
        if self._held:
            self._send(self._held)
        if self._chunked:
            self._client.write(b"0\r\n\r\n")
        self._client.finish(close=self._until_close)

    def lost(self, error: EngineError) -> bool:
        """End a response that has begun: a stream of events with an error event, anything else by cutting it short."""
        if not self._client.began:
            return False
        self.cut = True
        if self._events:
            self._send(error_event("engine_lost", f"the engine was lost in the middle of the response: {error}"))
            if self._chunked:
                self._client.write(b"0\r\n\r\n")
            self._client.finish(close=True)
        else:
            self._client.abort()
        return True

    def _send(self, data: bytes) -> None:
        self._client.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self._passed()

    def _passed(self) -> None:
        now = self._now()
        if not self._last:
            self._on_first(now)
        elif self._gaps is not None:
            self._gaps.observe(now - self._last)
        self._last = now
