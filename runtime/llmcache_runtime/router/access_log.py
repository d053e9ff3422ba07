"""One JSON line for each request: what happened to it, never what it said."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import msgspec

_FLUSH_SECONDS = 0.2


class AccessLog:
    """Writes lines in batches, so that logging costs no system call per request."""

    def __init__(self, stream: TextIO | None = None, *, enabled: bool = True) -> None:
        self._stream = stream or sys.stdout
        self._enabled = enabled
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []

    def write(self, entry: Mapping[str, Any]) -> None:
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
