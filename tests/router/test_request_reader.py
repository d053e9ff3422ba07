"""The reader of requests under arbitrary bytes: it gives a request or a FramingError, and pieces change nothing."""

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmcache_runtime.router.http1 import FramingError, Limits, Request, RequestReader
from tests.router.test_framing import ACCEPTED, REFUSED, h11_accepts

LIMITS = Limits(head=4096, headers=32, body=4096)
SEEDS = [*ACCEPTED.values(), *REFUSED.values()]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"\0",
    b"0",
    b"5",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Take a known case and delete, repeat or insert at a few places."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        piece = draw(st.sampled_from([b"", bytes(data[start:end]) * 2, *TOKENS]) | st.binary(max_size=4))
        data[start:end] = piece
    return bytes(data)


def read(pieces: list[bytes]) -> Request | str | None:
    """Feed pieces until a request is complete or refused."""
    reader = RequestReader(LIMITS, lambda: None)
    for piece in pieces:
        try:
            request = reader.feed(piece)
        except FramingError as error:
            return f"{error.status}"
        if request is not None:
            return request
    return None


@settings(max_examples=1500, deadline=None)
@given(mutated(), st.integers(1, 40))
@example(b"", 1)
def test_only_framing_errors_are_raised_and_pieces_do_not_matter(data: bytes, size: int) -> None:
    whole = read([data])
    pieces = read([data[i : i + size] for i in range(0, len(data), size)])

    if isinstance(whole, Request) and isinstance(pieces, Request):
        assert (whole.method, whole.target, whole.headers, whole.body) == (
            pieces.method,
            pieces.target,
            pieces.headers,
            pieces.body,
        )
    elif whole is None:
        assert pieces is None
    else:
        # Bytes after a complete request refuse it only when they come together with it.
        assert isinstance(whole, str)
        assert pieces is None or isinstance(pieces, Request | str)


@settings(max_examples=1500, deadline=None)
@given(mutated())
def test_what_is_accepted_h11_accepts_and_reads_alike(data: bytes) -> None:
    request = read([data])
    if not isinstance(request, Request):
        return

    assert h11_accepts(data)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Request):
            assert (event.method.decode(), event.target) == (request.method, request.target)
        elif isinstance(event, h11.Data):
            body += event.data
    assert body == request.body


@pytest.mark.parametrize("name", [b"content-length", b"transfer-encoding", b"host"])
def test_trailers_never_become_headers(name: bytes) -> None:
    data = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n%b: 7\r\n\r\n" % name
    request = read([data])

    if isinstance(request, Request):
        assert (name, b"7") not in request.headers
