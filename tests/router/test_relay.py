"""What a client gets is what the engine sent, however the network cuts it."""

import asyncio
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_runtime.router.chunks import is_one_event
from tests.router.wire import relayed

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


END = b"0\r\n\r\n"


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def body(sent: list[bytes]) -> bytes:
    """Decode a chunked body with h11."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(sent))
    found = b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage | type(h11.NEED_DATA)):
        if isinstance(event, h11.Data):
            found += event.data
    return found


@given(
    events=st.lists(st.binary(max_size=40).map(lambda data: b"data: " + data.replace(b"\n", b"") + b"\n\n")),
    extension=st.sampled_from([b"", b";a=b"]),
    cuts=st.lists(st.integers(0, 400)),
)
def test_the_body_is_the_same_however_it_is_cut(events: list[bytes], extension: bytes, cuts: list[int]) -> None:
    data = HEAD + b"".join(chunk(event, extension) for event in events) + END
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    wire = asyncio.run(relayed([data[a:b] for a, b in pairwise(edges)]))

    assert body(wire.sent) == b"".join(events)
    assert (wire.whole, wire.idle, wire.closed) == (True, 1, 0)


def test_a_chunk_that_is_an_event_is_passed_on_as_it_is() -> None:
    event = chunk(b"data: {}\n\n")
    wire = asyncio.run(relayed([HEAD, event, event, END]))

    assert wire.sent[1] is event


def test_a_chunk_inside_of_an_event_is_held_back() -> None:
    wire = asyncio.run(relayed([HEAD, chunk(b"data: 1\n\n"), chunk(b"data: "), chunk(b"2\n\n"), END]))

    assert wire.sent == [chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n"), END]


@pytest.mark.parametrize("rest", [b"garbage", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", b"\r\n\r\nx"])
def test_a_connection_with_bytes_behind_the_response_is_not_used_again(rest: bytes) -> None:
    wire = asyncio.run(relayed([HEAD, chunk(b"data: 1\n\n"), END + rest]))

    assert body(wire.sent) == b"data: 1\n\n"
    assert (wire.whole, wire.idle, wire.closed) == (True, 0, 1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"3\r\nx\n\n\r\n", True),
        (b"c\r\n0123456789\n\n\r\n", True),
        (b"4\r\n\r\n\n\n\r\n", True),
        (b"2\r\n\n\n\r\n", True),
        (b"1\r\nx\r\n", False),
        (b"C\r\n0123456789\n\n\r\n", False),
        (b"03\r\nx\n\n\r\n", False),
        (b"3;a\r\nx\n\n\r\n", False),
        (b"0\r\n\r\n", False),
        (b"0\r\n\n\n\r\n", False),
        (b"3\r\nx\n\n\r\n3\r\nx\n\n\r\n", False),
        (b"a\r\nx\n\n\r\n3\r\nx\n\n\r\n", False),
        (b"4\r\nx\n\n\r\n", False),
        (b"-1\r\n\n\n\r\n", False),
        (b"3\r\nx\n\n", False),
        (b"\n\n\r\n", False),
        (b"", False),
    ],
)
def test_only_what_is_exactly_a_chunk_and_ends_an_event_is_taken_for_one(data: bytes, *, expected: bool) -> None:
    assert is_one_event(data) is expected
