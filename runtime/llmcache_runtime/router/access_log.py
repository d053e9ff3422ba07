"""One JSON line for each request: what happened to it, never what it said."""

import asyncio
import sys
from typing import TextIO

import msgspec

from llmcache_runtime.policy import Reason

_FLUSH_SECONDS = 0.2


class Tokens(msgspec.Struct, gc=False):
    """Tokens of a prompt by where they were expected to come from."""

    engine: int
    shared: int
    compute: int


class Entry(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """A line of the log. Times in seconds; `status` is 0 when the client left before an answer began."""

    seconds: float
    id: str
    method: str
    path: str
    status: int
    engine: str | None
    attempts: int
    reason: Reason | None = None
    tokens: Tokens | None = None
    ttft: float | None = None
    error: str | None = None
    cut: bool = False


class AccessLog:
    """Writes lines in batches, so that logging costs no system call per request."""

    def __init__(self, stream: TextIO | None = None, *, enabled: bool = True) -> None:
        self._stream = stream or sys.stdout
        self._enabled = enabled
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []

    def write(self, entry: Entry) -> None:
        """Take an entry."""
        if self._enabled:
            if not self._lines:
                asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
            self._lines.append(self._encode(entry))

    def flush(self) -> None:
        """Write what is at hand."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._stream.write(b"\n".join(lines).decode() + "\n")
            self._stream.flush()
