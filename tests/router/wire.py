"""A relay between stubs of both its ends: what it writes for the bytes that an engine sends."""

import asyncio
from typing import TYPE_CHECKING, cast

from llmcache_runtime.router.histogram import Buckets
from llmcache_runtime.router.http1 import Headers
from llmcache_runtime.router.relay import Relay
from llmcache_runtime.router.upstream import Connection, EngineError, Pool

if TYPE_CHECKING:
    from llmcache_runtime.router.connection import Client


class Wire:
    """Both ends of a relay: the engine's transport and the client."""

    http10 = False
    began = chunked = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.error: EngineError | None = None
        self.whole = False
        self.idle = self.closed = 0

    def begin(self, _status: int, _headers: Headers, extra: Headers, _source: object) -> None:
        self.began = True
        self.chunked = (b"transfer-encoding", b"chunked") in extra

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


async def relayed(reads: list[bytes]) -> Wire:
    """Relay a response that comes in these reads, at whose end the engine closes."""
    wire = Wire()
    connection = Connection(wire.keep, lambda _: None)
    connection.connection_made(cast("asyncio.Transport", wire))
    pool = Pool("engine", 80, 1.0)
    pool._keep(connection)
    relay = Relay(cast("Client", wire), [], lambda _: None, Buckets((1.0,)), may_retry=False)
    running = asyncio.ensure_future(relay.run(pool, b"", b""))
    await asyncio.sleep(0)
    for read in reads:
        connection.data_received(read)
    connection.connection_lost(None)
    try:
        await running
    except EngineError as error:
        wire.error = error
    return wire
