"""A connection that speaks RESP2 (https://valkey.io/topics/protocol/), with time limits on every step."""

import socket

_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 16
LARGEST = 1 << 30
"""Bytes of a value; LMCache's are of tens of megabytes. Valkey's own limit is half of that."""


class ProtocolError(Exception):
    """The other side said what RESP does not allow here."""


class Scratch:
    """Memory for one value at a time, as large as the largest so far: fresh memory costs more than the copy into it."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray())

    def of(self, size: int) -> memoryview:
        """Return so many bytes, which hold until the next are asked for."""
        if len(self._memory) < size:
            self._memory = memoryview(bytearray(size))
        return self._memory[:size]


class Stream:
    """Reads lines and values, writes bytes. Raises OSError when the connection is lost or too slow."""

    def __init__(self, connection: socket.socket, scratch: Scratch) -> None:
        self._socket = connection
        self._scratch = scratch
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

    def value(self, size: int) -> memoryview:
        """Return a value of `size` bytes, good until the scratch is used again, and take the line end behind it."""
        if not 0 <= size <= LARGEST:
            raise ProtocolError(f"a value of {size} bytes")
        found = self._scratch.of(size + 2)
        have = min(len(self._buffer), size + 2)
        found[:have] = self._buffer[:have]
        del self._buffer[:have]
        while have < size + 2:
            count = self._socket.recv_into(found[have:])
            if not count:
                raise ConnectionResetError("the connection was closed in the middle of a value")
            have += count
        if bytes(found[size:]) != b"\r\n":
            raise ProtocolError("a value has another size than announced")
        return found[:size]

    def command(self) -> list[bytes | memoryview] | None:
        """Return the next command, an array of values; None when the other side has closed the connection.

        Only the last of them may be long, as that of SET is.
        """
        try:
            head = self.line()
        except ConnectionResetError:
            return None
        parts: list[bytes | memoryview] = []
        for left in reversed(range(_number(head, b"*"))):
            part = self.value(_number(self.line(), b"$"))
            parts.append(bytes(part) if left else part)
        return parts

    def write(self, *parts: bytes | memoryview) -> None:
        """Write all parts in order."""
        if len(parts) > 1 and sum(map(len, parts)) <= _CHUNK:
            parts = (b"".join(parts),)
        for part in parts:
            self._socket.sendall(part)

    def send(self, *parts: bytes | memoryview) -> None:
        """Write a command."""
        head = b"*%d\r\n" % len(parts)
        for part in parts:
            self.write(head + b"$%d\r\n" % len(part), part, b"\r\n")
            head = b""

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _more(self) -> None:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("the connection was closed")
        self._buffer += data


def _number(line: bytes, kind: bytes) -> int:
    if line[:1] != kind or not line[1:].isdigit():
        raise ProtocolError(f"{line[:40]!r} in the place of {kind!r} and a number")
    return int(line[1:])
