"""Whether the LMCache server beside still uses the guard: it connects when it starts, and never again (lmcache 0.5.6).

Once its connections are lost, it says that it is well, finds nothing in the L2 and stores nothing there (reproduced: a
guard that was killed). Only a new start helps, so the kubelet asks here whether the server is well.
"""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator

_LOST_SECONDS = 5.0
"""For a server that ends: its connections go one after the other."""
_SILENT_SECONDS = 60.0
"""For a server that is busy: what it is asked over HTTP waits for what it does."""
_ANSWER_SECONDS = 5.0


class Server:
    """What is known of the server at an address, where it answers HTTP."""

    def __init__(self, address: tuple[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._clock = clock
        self._lock = threading.Lock()
        self._open = 0
        # One that was there before this guard was connected with the guard that is gone.
        self._most = int(_listens(address))
        self._short_since = clock()
        self._well_at = clock()

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Count a connection of the server for as long as it lasts."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def trouble(self) -> str | None:
        """Return why the server has to be started again, or None."""
        now = self._clock()
        with self._lock:
            lost, most = self._most - self._open, self._most
            since = self._short_since
        if lost > 0 and now - since >= _LOST_SECONDS:
            return f"LMCache has lost {lost} of {most} connections to the guard, and makes new ones only when it starts"
        error = _unhealthy(self._address)
        if error is None:
            self._well_at = now
        elif now - self._well_at >= _SILENT_SECONDS:
            return f"LMCache has not been well for {now - self._well_at:.0f} s: {error}"
        return None

    def _count(self, more: int) -> None:
        with self._lock:
            whole = self._open >= self._most
            self._open += more
            self._most = max(self._most, self._open)
            if whole and self._open < self._most:
                self._short_since = self._clock()


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=_ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


def _unhealthy(address: tuple[str, int]) -> str | None:
    """Ask the server itself, and return what is wrong, if anything is."""
    connection = http.client.HTTPConnection(*address, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/healthcheck")
        answer = connection.getresponse()
        text = answer.read(300).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()
    return None if answer.status == http.client.OK else f"{answer.status} {text}"
