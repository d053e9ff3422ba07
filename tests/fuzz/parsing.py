"""What must hold for any bytes on a connection: the check that the fuzzer and the replay of its corpus share.

An input is a byte that says whose bytes follow (even: a client's, odd: an engine's), a byte that says how many of them
come at once (0: all), and the bytes.
"""

import asyncio

import h11

from llmcache_runtime.router.headers import request_head
from llmcache_runtime.router.http1 import FramingError, Limits, Request, RequestReader
from tests.router.wire import Wire, relayed

LIMITS = Limits(head=4096, headers=32, body=65536)
Read = tuple[bytes, bytes, bytes]


def check(data: bytes) -> None:
    """Feed an input. Raises AssertionError, or whatever the parser should not have raised."""
    if len(data) < 2:
        return
    side, step, stream = data[0], data[1] or len(data), data[2:]
    reads = [stream[start : start + step] for start in range(0, len(stream), step)]
    if side % 2:
        check_response(stream, reads)
    else:
        check_request(stream, reads)


def check_request(stream: bytes, reads: list[bytes]) -> None:
    """However a request is cut, it is the same one; h11 reads it so too; what is sent on is one request to h11."""
    whole, cut = first_request([stream]), first_request(reads)
    if whole is None:
        return
    assert cut is not None, "refused only when it comes in pieces"
    assert (cut.method, cut.target, cut.headers, cut.body) == (whole.method, whole.target, whole.headers, whole.body)
    expected = (whole.method.encode(), whole.target, whole.body)
    assert read_by_h11(stream) == expected, "h11 reads another request"
    forwarded = request_head(whole, b"engine:80", b"id") + whole.body
    assert read_by_h11(forwarded, alone=True) == expected, "what is sent on is another request"


def first_request(reads: list[bytes]) -> Request | None:
    """Read the first request; None if there is none or it is refused."""
    reader = RequestReader(LIMITS, lambda: None)
    try:
        for read in reads:
            if (request := reader.feed(read)) is not None:
                return request
    except FramingError:
        return None
    return None


def read_by_h11(stream: bytes, *, alone: bool = False) -> Read | None:
    """Give method, target and body of the first request; None if h11 refuses it, or if more follows and `alone`."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    method, target, body = b"", b"", b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                method, target = event.method, event.target
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                return None
    except h11.RemoteProtocolError:
        return None
    return None if alone and connection.trailing_data[0] else (method, target, body)


def check_response(stream: bytes, reads: list[bytes]) -> None:
    """However a response is cut, the client gets the same of it, or is told of the loss."""
    whole, cut = asyncio.run(both(stream, reads))
    if whole.whole and cut.whole:
        assert passed_on(whole) == passed_on(cut)


async def both(stream: bytes, reads: list[bytes]) -> tuple[Wire, Wire]:
    """Relay a response in one piece, and in several."""
    return await relayed([stream]), await relayed(reads)


def passed_on(wire: Wire) -> bytes:
    """Give the body that the client got."""
    data, body = b"".join(wire.sent), b""
    if not wire.chunked:
        return data
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
    return body
