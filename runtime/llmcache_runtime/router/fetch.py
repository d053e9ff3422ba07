"""Small requests of the router's own to an engine: probes, model lists, metrics."""

import asyncio

from llmcache_runtime.router.exchange import Exchange
from llmcache_runtime.router.upstream import EngineError, Pool

_BODY_LIMIT = 4 * 1024 * 1024


class _Fetch(Exchange):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self._received = 0

    def head(self) -> None:
        pass

    def fed(self, pieces: list[bytes]) -> None:
        self.pieces += pieces
        self._received += sum(map(len, pieces))
        if self._received > _BODY_LIMIT:
            self.fail(EngineError(f"the engine's response is larger than {_BODY_LIMIT} bytes"))

    def ended(self) -> None:
        pass

    def lost(self, error: EngineError) -> bool:
        del error
        return False


async def fetch(pool: Pool, path: str, timeout: float, headers: bytes = b"") -> tuple[int, bytes]:  # noqa: ASYNC109
    """GET a path of an engine; `headers` are whole lines. Gives status and body; raises EngineError.

    `timeout` is for all of it, in seconds.
    """
    exchange = _Fetch()
    head = b"GET %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (path.encode(), pool.authority, headers)
    try:
        async with asyncio.timeout(timeout):
            await exchange.run(pool, head, b"")
    except TimeoutError:
        raise EngineError(f"no response within {timeout:g} s") from None
    return exchange.status, b"".join(exchange.pieces)
