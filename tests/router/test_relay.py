"""What a client gets is what the engine sent, however the network cuts it."""

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_runtime.router.chunks import is_one_chunk
from llmcache_runtime.router.histogram import Buckets
from llmcache_runtime.router.relay import Relay
from llmcache_runtime.router.upstream import Connection, Pool

if TYPE_CHECKING:
    from llmcache_runtime.router.connection import Client

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire:
    """Both ends of a relay: the engine's transport and the client."""

    http10 = False
    began = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.whole = False
        self.idle = self.closed = 0

    def begin(self, *_: object) -> None:
        self.began = True

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def finish(self, *, close: bool) -> None:
        self.whole = not close

    def flush(self) -> None:
        pass

    def writelines(self, _: object) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        self.closed += 1

    def keep(self, _: Connection) -> None:
        self.idle += 1


END = b"0\r\n\r\n"


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def relayed(reads: list[bytes]) -> Wire:
    """Relay a response that comes in these reads."""
    return asyncio.run(_relayed(reads))


async def _relayed(reads: list[bytes]) -> Wire:
    wire = Wire()
    connection = Connection(wire.keep, lambda _: None)
    connection.connection_made(cast("asyncio.Transport", wire))
    pool = Pool("engine", 80, 1.0)
    pool._keep(connection)
    relay = Relay(cast("Client", wire), [], lambda _: None, Buckets((1.0,)), may_retry=False)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(relay.run(pool, b"", b""))
        await asyncio.sleep(0)
        for read in reads:
            connection.data_received(read)
    return wire


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
    wire = relayed([data[a:b] for a, b in pairwise(edges)])

    assert body(wire.sent) == b"".join(events)
    assert (wire.whole, wire.idle, wire.closed) == (True, 1, 0)


def test_a_chunk_that_is_an_event_is_passed_on_as_it_is() -> None:
    event = chunk(b"data: {}\n\n")
    wire = relayed([HEAD, event, event, END])

    assert wire.sent[1] is event


def test_a_chunk_inside_of_an_event_is_held_back() -> None:
    wire = relayed([HEAD, chunk(b"data: 1\n\n"), chunk(b"data: "), chunk(b"2\n\n"), END])

    assert wire.sent == [chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n"), END]


@pytest.mark.parametrize("rest", [b"garbage", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", b"\r\n\r\nx"])
def test_a_connection_with_bytes_behind_the_response_is_not_used_again(rest: bytes) -> None:
    wire = relayed([HEAD, chunk(b"data: 1\n\n"), END + rest])

    assert body(wire.sent) == b"data: 1\n\n"
    assert (wire.whole, wire.idle, wire.closed) == (True, 0, 1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"1\r\nx\r\n", True),
        (b"a\r\n0123456789\r\n", True),
        (b"2\r\n\r\n\r\n", True),
        (b"A\r\n0123456789\r\n", False),
        (b"01\r\nx\r\n", False),
        (b"1;a\r\nx\r\n", False),
        (b"0\r\n\r\n", False),
        (b"1\r\nx\r\n1\r\nx\r\n", False),
        (b"6\r\nx\r\n1\r\nx\r\n", False),
        (b"2\r\nx\r\n", False),
        (b"-1\r\n\r\n", False),
        (b"1\r\nx", False),
        (b"", False),
    ],
)
def test_only_what_is_exactly_a_chunk_is_taken_for_one(data: bytes, *, expected: bool) -> None:
    assert is_one_chunk(data) is expected
