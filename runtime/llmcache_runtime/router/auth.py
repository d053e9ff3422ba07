"""API keys of clients, from a file that may change: a mounted Secret.

The file has one key a line; empty lines and lines that begin with # don't count. Keys are compared as hashes, in
constant time.
"""

import asyncio
import hashlib
import hmac
import logging
from pathlib import Path

from llmcache_runtime.router.errors import RouterError

_log = logging.getLogger(__name__)


class ApiKeys:
    """The keys that open the public port. A file that becomes unreadable or empty leaves the last keys in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hashes = self._read()
        if not self._hashes:
            raise ValueError(f"{path} holds no key")

    def _read(self) -> frozenset[bytes]:
        lines = (line.strip() for line in self._path.read_bytes().splitlines())
        return frozenset(hashlib.sha256(line).digest() for line in lines if line and not line.startswith(b"#"))

    def check(self, authorization: bytes | None) -> None:
        """Raise RouterError unless the header carries one of the keys."""
        scheme, _, key = (authorization or b"").partition(b" ")
        given = hashlib.sha256(key.strip()).digest()
        # Every key is compared, so that the time taken tells nothing of which one is near.
        matches = [hmac.compare_digest(given, known) for known in self._hashes]
        if scheme.lower() != b"bearer" or not any(matches):
            raise RouterError(401, "invalid_api_key", "a valid API key is needed: Authorization: Bearer KEY")

    async def follow(self, interval: float = 2.0) -> None:
        """Read the file again whenever it has changed, for ever."""
        seen = b""
        while True:
            try:
                content = self._path.read_bytes()
                if content != seen:
                    self._hashes = self._read() or self._hashes
                    seen = content
            except OSError as error:
                _log.warning("the API keys can't be read again, the last ones stay in force: %s", error)
            await asyncio.sleep(interval)
