"""TLS of the gRPC port, from files that may change: a mounted Secret of type kubernetes.io/tls.

The certificate is looked at with each handshake, of which a gateway makes one a connection.
"""

import logging
from pathlib import Path

import grpc

_log = logging.getLogger(__name__)


class CertificateFiles:
    """A certificate chain and its key. Raises OSError when they can't be read at first."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._seen = self._content()

    def _content(self) -> tuple[bytes, bytes]:
        return self._key.read_bytes(), self._certificate.read_bytes()

    def credentials(self) -> grpc.ServerCredentials:
        """Give what a server listens with; it follows the files."""
        initial = grpc.ssl_server_certificate_configuration([self._seen])
        return grpc.dynamic_ssl_server_credentials(initial, self._fetch)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Give what the files hold, or None where nothing has changed; gRPC keeps the last that it could use."""
        try:
            content = self._content()
        except OSError as error:
            _log.warning("the certificate can't be read again, the last one stays in use: %s", error)
            return None
        if content == self._seen:
            return None
        self._seen = content
        return grpc.ssl_server_certificate_configuration([content])
