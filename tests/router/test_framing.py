"""Request framing: the same verdict as h11's, or stricter; nothing malformed reaches an engine."""

import asyncio

import h11
import pytest

from llmcache_runtime.router.connection import Patience
from llmcache_runtime.router.http1 import Limits
from tests.router.conftest import StackMaker

HOST = b"Host: a\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /version HTTP/1.1\r\n"

REFUSED = {
    "both lengths": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, coding first": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two equal lengths": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "list of lengths": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "signed length": POST + b"Content-Length: +5\r\n\r\nhello",
    "negative length": POST + b"Content-Length: -5\r\n\r\nhello",
    "hexadecimal length": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "empty length": POST + b"Content-Length: \r\n\r\nhello",
    "length beyond 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "bare LF everywhere": b"GET /version HTTP/1.1\nHost: a\n\n",
    "bare LF after a header": GET + b"Host: a\nX: y\r\n\r\n",
    "bare LF at the end": GET + b"Host: a\r\n\n",
    "bare CR in a header": GET + b"Host: a\rX: y\r\n\r\n",
    "folded header": GET + b"Host: a\r\nX: y\r\n z\r\n\r\n",
    "folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "blank before the colon": GET + b"Host : a\r\n\r\n",
    "blank before the first header": GET + b" Host: a\r\n\r\n",
    "NUL in a value": GET + b"Host: a\r\nX: a\0b\r\n\r\n",
    "control character in a value": GET + b"Host: a\r\nX: a\x01b\r\n\r\n",
    "parenthesis in a name": GET + b"Host: a\r\nX(: b\r\n\r\n",
    "empty name": GET + b"Host: a\r\n: b\r\n\r\n",
    "no Host": GET + b"\r\n",
    "two Hosts": GET + b"Host: a\r\nHost: b\r\n\r\n",
    "coding identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "coding chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding not quite chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding gzip": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding after chunked": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "coding with an upgrade": POST
    + b"Transfer-Encoding: chunked\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n0\r\n\r\n",
    "coding in HTTP/1.0": b"POST /v1/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size not hexadecimal": CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
    "chunk size with prefix": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "chunk size negative": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "chunk size beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "chunk size with a blank": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"3\r\nhello\r\n0\r\n\r\n",
    "chunk with bare LF": CHUNKED + b"5\nhello\n0\n\n",
    "chunk extension with bare LF": CHUNKED + b"5;a\nhello\r\n0\r\n\r\n",
    "HTTP/1.2": b"GET /version HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET /version HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /version\r\n\r\n",
    "version in lower case": b"GET /version http/1.1\r\nHost: a\r\n\r\n",
    "two blanks": b"GET  /version HTTP/1.1\r\nHost: a\r\n\r\n",
    "blank in the target": b"GET /version x HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab for blank": b"GET\t/version HTTP/1.1\r\nHost: a\r\n\r\n",
    "control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "method not a token": b"G@T /version HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty line first": b"\r\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "expectation unknown": POST + b"Content-Length: 5\r\nExpect: 200-maybe\r\n\r\nhello",
}

ACCEPTED = {
    "plain": GET + b"Host: a\r\n\r\n",
    "blanks around a length": POST + b"Content-Length:  5 \r\n\r\nhello",
    "chunks": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "chunk extension": CHUNKED + b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "trailer": CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "coding in upper case": POST + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "upgrade ignored": GET + b"Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "HTTP/1.0": b"GET /version HTTP/1.0\r\n\r\n",
    "byte above 127 in a value": GET + b"Host: a\r\nX: \xff\r\n\r\n",
}


def h11_accepts(data: bytes) -> bool:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                return True
            if event in (h11.NEED_DATA, h11.PAUSED):
                return False
    except h11.RemoteProtocolError:
        return False


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("split", [False, True], ids=["whole", "bytewise"])
async def test_what_is_malformed_is_refused_and_not_forwarded(
    make_stack: StackMaker, data: bytes, *, split: bool
) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    for piece in [data[i : i + 1] for i in range(len(data))] if split else [data]:
        writer.write(piece)
        if split:
            await asyncio.sleep(0)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 417 "))
    assert b"connection: close" in answer
    assert stack.engines[0].engine.heads == []


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED.keys())
async def test_what_is_well_formed_is_forwarded_as_h11_would(make_stack: StackMaker, data: bytes) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    writer.write(data)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()

    assert h11_accepts(data)
    assert b"x-request-id" in head
    assert len(stack.engines[0].engine.heads) == 1


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_body_behind_an_ignored_upgrade_is_read(make_stack: StackMaker, size: int) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    data = POST + b'Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 14\r\n\r\n{"prompt":"x"}'
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await asyncio.sleep(0)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert stack.engines[0].engine.requests == [{"prompt": "x"}]


async def test_garbage_in_the_bytes_of_a_request_refuses_both(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    writer.write(POST + b"Content-Length: 5\r\n\r\nhelloGARBAGE")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert stack.engines[0].engine.heads == []


async def test_a_second_request_in_the_same_bytes_closes_the_connection_after_the_first(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    writer.write((GET + b"Host: a\r\n\r\n") * 2)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in answer
    assert len(stack.engines[0].engine.heads) == 1


async def test_sizes_are_bounded(make_stack: StackMaker) -> None:
    stack = await make_stack(1, limits=Limits(head=1000, headers=10, body=1000))
    cases = {
        b"431": [
            GET + b"X: " + b"a" * 2000,
            GET + HOST + b"X: y\r\n" * 20 + b"\r\n",
            b"GET /" + b"a" * 2000,
        ],
        b"413": [
            POST + b"Content-Length: 1001\r\n\r\n",
            CHUNKED + b"3e8\r\n" + b"a" * 1000 + b"\r\n1\r\na\r\n",
        ],
    }
    for status, requests in cases.items():
        for data in requests:
            reader, writer = await stack.raw()
            writer.write(data)
            answer = await asyncio.wait_for(reader.read(), 5)
            writer.close()

            assert answer.startswith(b"HTTP/1.1 " + status)

    assert stack.engines[0].engine.heads == []


async def test_a_client_that_waits_to_be_told_sends_its_body_after_100(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    writer.write(POST + b"Content-Length: 14\r\nExpect: 100-continue\r\n\r\n")
    interim = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.write(b'{"prompt":"x"}')
    final = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert final.startswith(b"HTTP/1.1 200 ")
    assert "expect" not in stack.engines[0].engine.heads[0]


async def test_a_client_that_trickles_a_body_is_cut(make_stack: StackMaker) -> None:
    stack = await make_stack(1, patience=Patience(body=0.2))
    reader, writer = await stack.raw()
    writer.write(POST + b"Content-Length: 100000\r\n\r\n")
    ended = asyncio.ensure_future(asyncio.wait_for(reader.read(), 20))
    while not ended.done():
        writer.write(b"x")
        await asyncio.wait([ended], timeout=0.02)
    writer.close()

    assert ended.exception() is None or isinstance(ended.exception(), ConnectionError)


@pytest.mark.parametrize(
    "part", [b"", b"GET /ver", POST + b"Content-Length: 10\r\n\r\nhal"], ids=["idle", "head", "body"]
)
async def test_a_client_that_stops_is_cut(make_stack: StackMaker, part: bytes) -> None:
    stack = await make_stack(1, patience=Patience(idle=0.1, head=0.1, body=0.1))
    reader, writer = await stack.raw()
    writer.write(part)
    try:
        answer = await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        answer = b""
    writer.close()

    assert answer == b""
