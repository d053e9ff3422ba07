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

    async def run(self, pool: Pool, head: bytes, body: bytes, timeout: float) -> None:  # noqa: ASYNC109
        """Send a request and wait until the response has ended.

        `timeout` is for the head of the response, in seconds. Raises EngineError, unless `lost` dealt with the loss.
        """
        kept = pool.idle()
        if kept is not None:
            try:
                await self._over(kept, head, body, timeout)
            except StaleConnectionError:
                await self._over(await pool.connect(), head, body, timeout)
        else:
            await self._over(await pool.connect(), head, body, timeout)

    async def _over(self, connection: Connection, head: bytes, body: bytes, timeout: float) -> None:  # noqa: ASYNC109
        loop = asyncio.get_running_loop()
        self._result = loop.create_future()
        self.connection = connection
        expiry = loop.call_later(timeout, self._expire, timeout)
        try:
            connection.send(self, head, body)
            await self._result
        finally:
            expiry.cancel()
            self._abort()

    def _expire(self, timeout: float) -> None:
        if self.status == 0:
            self.fail(EngineError(f"no response within {timeout:g} s"))

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
    def body(self, body: bytes) -> None:
        """Take a part of the body."""

    @abstractmethod
    def fed(self) -> None:
        """Act on what the last bytes held."""

    @abstractmethod
    def ended(self) -> None:
        """Act on the end of the response."""

    @abstractmethod
    def lost(self, error: EngineError) -> bool:
        """Act on a response that can't be completed; True if nobody else needs to know."""
