"""TLS of the public port, from files that may change: a mounted Secret of type kubernetes.io/tls."""

import asyncio
import logging
import ssl
from pathlib import Path

_log = logging.getLogger(__name__)


class Certificate:
    """A server context whose certificate follows its files. New connections get the new one; running ones go on."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._content()
        self._load()

    def _content(self) -> tuple[bytes, bytes]:
        return self._certificate.read_bytes(), self._key.read_bytes()

    def _load(self) -> None:
        """Load the files. Raises OSError or ssl.SSLError, and leaves the context as it was."""
        # Tried on another context first: a certificate that does not belong to the key would drop the one in use.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
        self.context.load_cert_chain(self._certificate, self._key)

    async def follow(self, interval: float = 2.0) -> None:
        """Load the files again whenever they have changed, for ever."""
        while True:
            await asyncio.sleep(interval)
            try:
                content = self._content()
                if content != self._seen:
                    self._load()
                    self._seen = content
                    _log.info("a new certificate is in use")
            except (OSError, ssl.SSLError) as error:
                _log.warning("the certificate can't be loaded again, the last one stays in use: %s", error)
