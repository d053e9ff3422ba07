"""Requests from clients: HTTP/1.1 framing (RFC 9112), read strictly.

llhttp refuses most of what request smuggling lives on (both kinds of length, repeated or malformed lengths, bare LF
or CR, folded headers, malformed chunks). What it lets pass, or can't know, is refused here: repeated or missing Host,
codings other than chunked, other versions, extra blanks, sizes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, in the order received."""

_START_LINE = re.compile(rb"[A-Z]+ [^ \r\n]+ HTTP/1\.[01]\r\n")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may send, in bytes; beyond it the answer is 431 or 413."""

    head: int = 64 * 1024
    headers: int = 128
    body: int = 32 * 1024 * 1024


class FramingError(Exception):
    """A request that must not be forwarded; the connection can't be used after it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class Request:
    """A whole request, body included.

    path: the target without its query; fields: the last value of each header, by its lower-case name.
    """

    method: str = ""
    target: bytes = b""
    path: str = ""
    headers: Headers = field(default_factory=list)
    fields: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True
    http10: bool = False


class RequestReader:
    """Turns the bytes of a connection into requests, one at a time.

    `on_expect` is called when the client waits for a 100 before it sends the body.
    """

    def __init__(self, limits: Limits, on_expect: Callable[[], None]) -> None:
        self._limits = limits
        self._on_expect = on_expect
        self._parser = HttpRequestParser(self)
        self._reset()

    def _reset(self) -> None:
        self._request = Request()
        self._head = b""
        self._in_head = True
        self._body: list[bytes] = []
        self._body_size = self._length = self._unread = 0
        self._complete = False
        self._followed = False

    @property
    def started(self) -> bool:
        """Whether a request has begun and not ended."""
        return bool(self._head)

    @property
    def in_body(self) -> bool:
        """Whether the head of a request has ended and its body has not."""
        return not self._in_head

    def feed(self, data: bytes) -> Request | None:
        """Read more bytes; give the request that they complete.

        A second request in the same bytes is dropped and the connection marked to close: RFC 9112 section 9.3.2 lets
        a server do that, and a client then repeats it.
        Raises FramingError.
        """
        if self._in_head:
            self._head += data
        if self._unread:
            self._read_on(data)
        else:
            self._parse(data)
        if self._in_head and len(self._head) > self._limits.head:
            raise FramingError(431, f"the request head is larger than {self._limits.head} bytes")
        if not self._complete:
            return None
        request = self._request
        request.body = b"".join(self._body)
        request.keep_alive = request.keep_alive and not self._followed
        self._reset()
        return request

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            # Upgrades are not spoken here, which a server may silently decide (RFC 9110 section 7.8). llhttp stops at
            # one and leaves the body unread; Java's client asks for HTTP/2 with every first request.
            if not self._followed:
                self._followed = True
                self._unread = self._length
                self._complete = not self._unread
                self._read_on(data[upgrade.args[0] :])
        except HttpParserError as error:
            # What a callback raised comes wrapped; see `HttpRequestParser.feed_data`.
            cause = error.__context__
            raise (
                cause if isinstance(cause, FramingError) else FramingError(400, f"malformed request: {error}")
            ) from error

    def _read_on(self, data: bytes) -> None:
        """Read a body that llhttp does not; what follows it is dropped with the connection."""
        if self._unread:
            self._body.append(data[: self._unread])
            self._unread -= len(self._body[-1])
            self._complete = not self._unread

    def on_message_begin(self) -> None:
        """Take note of a second request in the bytes of the first."""
        self._followed = self._followed or self._complete

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        if not self._complete:
            self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are dropped."""
        if self._in_head and not self._complete:
            name = name.lower()
            self._request.headers.append((name, value))
            self._request.fields[name] = value
            if len(self._request.headers) > self._limits.headers:
                raise FramingError(431, f"more than {self._limits.headers} headers")

    def on_headers_complete(self) -> None:
        """Check the head."""
        if self._complete:
            return
        request = self._request
        if not _START_LINE.match(self._head):
            raise FramingError(400, "the request line is not METHOD TARGET HTTP/1.1")
        request.method = self._parser.get_method().decode()
        request.path = request.target.partition(b"?")[0].decode("latin-1")
        request.http10 = self._parser.get_http_version() == "1.0"
        # Asked here because llhttp forgets it at the end of the message.
        request.keep_alive = self._parser.should_keep_alive()
        self._length = self._check(request)
        self._in_head = False
        if self._length > self._limits.body:
            raise self._too_large()
        if b"expect" in request.fields:
            self._on_expect()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._complete:
            return
        self._body_size += len(body)
        if self._body_size > self._limits.body:
            raise self._too_large()
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Take note of the end."""
        self._complete = True

    def _too_large(self) -> FramingError:
        return FramingError(413, f"the request body is larger than {self._limits.body} bytes")

    @staticmethod
    def _check(request: Request) -> int:
        """Check the headers that decide on framing; give the announced length of the body."""
        hosts = length = codings = 0
        for name, value in request.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                codings += 1
                if value.lower() != b"chunked" or request.http10:
                    raise FramingError(400, "the only transfer coding understood is chunked, in HTTP/1.1")
            elif name == b"expect" and value.lower() != b"100-continue":
                raise FramingError(417, "the only expectation understood is 100-continue")
        if hosts > 1 or (hosts == 0 and not request.http10):
            raise FramingError(400, "a request needs one Host header")
        if codings and b"upgrade" in request.fields:
            # llhttp would take the chunks for the upgraded protocol (found by mutation against h11).
            raise FramingError(400, "a chunked request can't ask for an upgrade")
        if codings > 1:
            raise FramingError(400, "more than one Transfer-Encoding header")
        return length
