"""Whether the LMCache server beside still uses the guard: it connects when it starts, and never again (lmcache 0.5.6).

Once a connection is lost, or could not be made, it says that it is well, finds nothing in the L2 and stores nothing
there (reproduced: a guard that was killed). Only a new start helps, so the kubelet asks here if the server is well.
"""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator

_LOST_SECONDS = 5.0
"""For a server that ends: its connections go one after the other."""
_ANSWER_SECONDS = 8.0


class Server:
    """What is known of the server at an address, where it answers HTTP, which makes so many connections."""

    def __init__(self, address: tuple[str, int], connections: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._wanted = connections
        self._clock = clock
        self._lock = threading.Lock()
        self._open = 0
        self._short_since = clock()

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Count a connection for as long as it lasts."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def trouble(self) -> str | None:
        """Return why the server has to be started again, or None. It answers HTTP once it has connected, or tried."""
        if error := _unhealthy(self._address):
            return error
        with self._lock:
            there, short = self._open, self._clock() - self._short_since
        if there >= self._wanted or short < _LOST_SECONDS:
            return None
        return f"LMCache has {there} of {self._wanted} connections to the guard, and makes them only when it starts"

    def _count(self, more: int) -> None:
        with self._lock:
            whole = self._open >= self._wanted
            self._open += more
            if whole and self._open < self._wanted:
                self._short_since = self._clock()


def _unhealthy(address: tuple[str, int]) -> str | None:
    """Ask the server itself, and return what is wrong, if anything is."""
    connection = http.client.HTTPConnection(*address, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/healthcheck")
        answer = connection.getresponse()
        text = answer.read(300).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"LMCache does not answer: {error!r}"
    finally:
        connection.close()
    return None if answer.status == http.client.OK else f"LMCache is not well: {answer.status} {text}"
