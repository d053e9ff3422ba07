"""The Kubernetes API from inside a pod: where it is, and who we are there.

Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx

_MOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NotInClusterError(Exception):
    """There is no service account here."""


@dataclass(frozen=True, slots=True)
class Api:
    """An API server. The token file is read anew for each request: bound tokens are rotated."""

    url: str
    ca_file: Path | None
    token_file: Path | None

    @classmethod
    def in_cluster(cls) -> "Api":
        """Find the API server of the cluster that this pod runs in. Raises NotInClusterError."""
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (_MOUNT / "token").exists():
            raise NotInClusterError(
                "--service needs a pod with a service account (KUBERNETES_SERVICE_HOST and its token); "
                "outside Kubernetes name the engines with --engine"
            )
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return cls(f"https://{authority}", _MOUNT / "ca.crt", _MOUNT / "token")

    def client(self) -> httpx.AsyncClient:
        """Make an HTTP client that trusts the cluster's CA and no proxy of the environment."""
        verify = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else False
        return httpx.AsyncClient(base_url=self.url, verify=verify, trust_env=False)

    def headers(self) -> dict[str, str]:
        """Give the headers that authenticate a request."""
        return {"authorization": f"Bearer {self.token_file.read_text().strip()}"} if self.token_file else {}
