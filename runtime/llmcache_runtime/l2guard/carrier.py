"""Moves values from one connection to another without holding more than a part of them.

A copy of KV costs as much as its way over the network does: the kernel can hand its own pages on instead (splice(2)).
"""

import contextlib
import fcntl
import os
import select
from typing import Protocol

from llmcache_runtime.l2guard.stream import Stream

_PART = 1 << 20
"""Bytes; the most that a pipe of an ordinary user holds, /proc/sys/fs/pipe-max-size."""


class Carrier(Protocol):
    """Holds a part of a value between two connections."""

    def take(self, source: Stream, most: int) -> int:
        """Take what has come, `most` bytes at most, and return how many. Raises OSError for the source."""

    def give(self, sink: Stream) -> None:
        """Give away all that was taken. Raises OSError for the sink."""

    def clear(self) -> None:
        """Forget what was taken and could not be given away."""

    def close(self) -> None:
        """Hold nothing any more."""


def carrier(*, encrypted: bool) -> Carrier:
    """Return one for connections of which one may be TLS, whose bytes have to be read to be passed on."""
    return Copying() if encrypted or not hasattr(os, "splice") else Splicing()


class Copying:
    """Through memory of this process."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(_PART))
        self._held = 0

    def take(self, source: Stream, most: int) -> int:
        """Read."""
        self._held = source.read_into(self._memory[:most])
        return self._held

    def give(self, sink: Stream) -> None:
        """Write."""
        sink.write(self._memory[: self._held])

    def clear(self) -> None:
        """Nothing to do: the next part takes the place."""

    def close(self) -> None:
        """Nothing to do."""


class Splicing:
    """Through a pipe, whose pages are those that the network brought."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        self._early = memoryview(b"")
        self._held = 0
        with contextlib.suppress(PermissionError):
            # A user with very many pipes has to make do with small ones.
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _PART)

    def take(self, source: Stream, most: int) -> int:
        """Splice, behind what was read together with the head of the value."""
        self._early = source.early(most)
        if self._early:
            return len(self._early)
        while True:
            source.wait(select.POLLIN)
            with contextlib.suppress(BlockingIOError):
                self._held = os.splice(source.fileno(), self._in, min(most, _PART), flags=os.SPLICE_F_NONBLOCK)
                break
        if not self._held:
            raise ConnectionResetError("the connection was closed in the middle of a value")
        return self._held

    def give(self, sink: Stream) -> None:
        """Splice."""
        if self._early:
            sink.write(self._early)
            self._early = memoryview(b"")
        while self._held:
            try:
                self._held -= os.splice(self._out, sink.fileno(), self._held)
            except BlockingIOError:
                sink.wait(select.POLLOUT)

    def clear(self) -> None:
        """Empty the pipe."""
        self._early = memoryview(b"")
        while self._held:
            self._held -= len(os.read(self._out, self._held))

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._out)
        os.close(self._in)
