"""One request to an engine and what becomes of its response."""

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from llmcache_runtime.router.upstream import Connection, EngineError, Pool, StaleConnectionError

if TYPE_CHECKING:
    from llmcache_runtime.router.http1 import Headers


class Exchange(ABC):
    """Sends a request and waits for its response; subclasses say what is done with the parts of it.

    `status` and `headers` are those of the response; a status of 0 means that nothing of it has come yet.
    """

    def __init__(self) -> None:
        self._result: asyncio.Future[None] | None = None
        self.status = 0
        self.headers: Headers = []
        self.connection: Connection | None = None

    async def run(self, pool: Pool, head: bytes, body: bytes) -> None:
        """Send a request and wait until the response has ended. Raises EngineError, unless `lost` dealt with it."""
        kept = pool.idle()
        if kept is not None:
            try:
                await self._over(kept, head, body)
            except StaleConnectionError:
                await self._over(await pool.connect(), head, body)
        else:
            await self._over(await pool.connect(), head, body)

    async def _over(self, connection: Connection, head: bytes, body: bytes) -> None:
        self._result = asyncio.get_running_loop().create_future()
        self.connection = connection
        try:
            connection.send(self, head, body)
            await self._result
        finally:
            self._abort()

    def begun(self, status: int, headers: "Headers") -> None:
        """Take the head."""
        self.status, self.headers = status, headers
        self.head()

    def succeed(self) -> None:
        """End the exchange well. The connection is no longer its own."""
        self.connection = None
        if self._result is not None and not self._result.done():
            self.ended()
            self._result.set_result(None)

    def fail(self, error: EngineError) -> None:
        """End the exchange with an error, which is raised unless `lost` deals with it."""
        self._abort()
        if self._result is not None and not self._result.done():
            if self.lost(error):
                self._result.set_result(None)
            else:
                self._result.set_exception(error)

    def _abort(self) -> None:
        """Close a connection that is still in use, which makes vLLM abort the request."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    @abstractmethod
    def head(self) -> None:
        """Act on the head; may `fail`."""

    @abstractmethod
    def fed(self, pieces: list[bytes]) -> None:
        """Act on the parts of the body that the last bytes held, if any."""

    def chunk(self, data: bytes) -> bool:
        """Take exactly one chunk, framing included; by default it is to be parsed."""
        del data
        return False

    @abstractmethod
    def ended(self) -> None:
        """Act on the end of the response."""

    @abstractmethod
    def lost(self, error: EngineError) -> bool:
        """Act on a response that can't be completed; True if nobody else needs to know."""
