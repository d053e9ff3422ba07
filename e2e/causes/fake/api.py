"""The API server over plain HTTP, through one `kubectl proxy`: a process for each request would cost too much here."""

from __future__ import annotations

import contextlib
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from e2e.cluster.kubectl import binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e.kube import Json

SECONDS = 30.0
GROUPS = {
    "namespaces": "/api/v1",
    "serviceaccounts": "/api/v1",
    "pods": "/api/v1",
    "deployments": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "llmcacheservices": "/apis/llmcache.dev/v1alpha1",
}


@dataclass(frozen=True)
class Api:
    """Requests on objects of one namespace. Every method raises httpx.HTTPStatusError for what is refused."""

    client: httpx.Client
    namespace: str

    def get(self, kind: str, name: str) -> Json:
        """Return one object."""
        return self._answer(self.client.get(self._path(kind, name)))

    def items(self, kind: str) -> list[Json]:
        """Return all objects of a kind."""
        found: list[Json] = self._answer(self.client.get(self._path(kind)))["items"]
        return found

    def create(self, kind: str, obj: Json) -> None:
        """Create an object; its kind and API version follow from its path."""
        self._answer(self.client.post(self._path(kind), json=obj))

    def merge(self, kind: str, name: str, change: Json, *, subresource: str = "") -> None:
        """Merge a change into an object or its status."""
        path = self._path(kind, name) + (f"/{subresource}" if subresource else "")
        headers = {"content-type": "application/merge-patch+json"}
        self._answer(self.client.patch(path, json=change, headers=headers))

    def delete(self, kind: str, name: str) -> None:
        """Delete an object at once, if it is there."""
        answer = self.client.delete(self._path(kind, name), params={"gracePeriodSeconds": 0})
        if answer.status_code != httpx.codes.NOT_FOUND:
            self._answer(answer)

    def _path(self, kind: str, name: str = "") -> str:
        scope = "" if kind == "namespaces" else f"/namespaces/{self.namespace}"
        return f"{GROUPS[kind]}{scope}/{kind}" + (f"/{name}" if name else "")

    @staticmethod
    def _answer(response: httpx.Response) -> Json:
        if response.is_error:
            raise httpx.HTTPStatusError(response.text, request=response.request, response=response)
        found: Json = response.json()
        return found


@contextlib.contextmanager
def proxied(kubeconfig: Path) -> Iterator[httpx.Client]:
    """Give a client of the API server with the rights of a kubeconfig."""
    argv = [binary(), f"--kubeconfig={kubeconfig}", "proxy", "--port=0", "--address=127.0.0.1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:\d+", line)
            if found is None:
                raise TimeoutError(f"kubectl proxy said: {line or 'nothing'}")
            with httpx.Client(base_url=f"http://{found[0]}", timeout=SECONDS, trust_env=False) as client:
                yield client
        finally:
            process.terminate()
