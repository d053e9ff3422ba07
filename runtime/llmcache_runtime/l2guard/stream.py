"""A connection that speaks RESP2 (https://valkey.io/topics/protocol/), with time limits on every step."""

import select
import socket
from dataclasses import dataclass

_READ = 1 << 12
_LONGEST_LINE = 1 << 16
_LONGEST_PART = 1 << 16
_WITH_VALUE = 3
LARGEST = 1 << 30
"""Bytes of a value; LMCache's are of tens of megabytes. Valkey's own limit is half of that."""


class ProtocolError(Exception):
    """The other side said what RESP does not allow here."""


@dataclass(frozen=True, slots=True)
class Command:
    """A name and a key; `size` of the value behind them in bytes, which is still to be read, where there is one."""

    parts: tuple[bytes, ...]
    size: int | None = None


class Stream:
    """Reads lines and values, writes bytes. Raises OSError when the connection is lost or too slow."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()

    def line(self) -> bytes:
        """Return the next line without its end."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise ProtocolError("a line has no end")
            self._more()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def command(self) -> Command | None:
        """Return the next command, an array of values; None when the other side has closed the connection.

        The last of three parts is the value of a SET, and left where it is.
        """
        try:
            head = self.line()
        except ConnectionResetError:
            return None
        count = number(head, b"*")
        parts: list[bytes] = []
        while len(parts) < count:
            size = number(self.line(), b"$")
            if len(parts) + 1 == count == _WITH_VALUE:
                return Command(tuple(parts), size)
            parts.append(self._part(size))
        return Command(tuple(parts))

    def early(self, most: int) -> memoryview:
        """Return bytes that were read together with a line before them, `most` at most."""
        found = memoryview(bytes(self._buffer[:most]))
        del self._buffer[: len(found)]
        return found

    def read_into(self, memory: memoryview) -> int:
        """Read what has come into memory, and return how many bytes."""
        found = self.early(len(memory))
        memory[: len(found)] = found
        count = len(found) or self._socket.recv_into(memory)
        if not count:
            raise ConnectionResetError("the connection was closed in the middle of a value")
        return count

    def end(self) -> None:
        """Take the line end behind a value."""
        while len(self._buffer) < len(b"\r\n"):
            self._more()
        if self._buffer[:2] != b"\r\n":
            raise ProtocolError("a value has another size than announced")
        del self._buffer[:2]

    def write(self, *parts: bytes | memoryview) -> None:
        """Write all parts in order."""
        self._socket.sendall(parts[0] if len(parts) == 1 else b"".join(parts))

    def send(self, *parts: bytes) -> None:
        """Write a command."""
        self.write(command(*parts))

    def wait(self, event: int) -> None:
        """Wait until the connection can be read or written. Raises TimeoutError when that takes too long."""
        limit = self._socket.gettimeout()
        if not self._ready(event, None if limit is None else limit * 1000):
            raise TimeoutError("timed out")

    def idle(self) -> bool:
        """Whether nothing has come, not even its end."""
        return not self._buffer and not self._ready(select.POLLIN, 0)

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _ready(self, event: int, milliseconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self._socket, event)
        return bool(poll.poll(milliseconds))

    def _part(self, size: int) -> bytes:
        if size > _LONGEST_PART:
            raise ProtocolError(f"a name or key of {size} bytes")
        while len(self._buffer) < size + 2:
            self._more()
        part = bytes(self._buffer[:size])
        del self._buffer[:size]
        self.end()
        return part

    def _more(self) -> None:
        # Little, since what comes behind a line may be a value that need not be copied.
        data = self._socket.recv(_READ)
        if not data:
            raise ConnectionResetError("the connection was closed")
        self._buffer += data


def command(*parts: bytes) -> bytes:
    """Return a command as it is sent."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def number(line: bytes, kind: bytes) -> int:
    """Return the number in a head, of a value that is not too large. Raises ProtocolError for anything else."""
    if line[:1] != kind or not line[1:].isdigit() or int(line[1:]) > LARGEST:
        raise ProtocolError(f"{line[:40]!r} in the place of {kind!r} and a number up to {LARGEST}")
    return int(line[1:])
