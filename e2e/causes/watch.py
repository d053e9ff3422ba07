"""Every status that LLMCacheServices had since a moment, as one `kubectl get --watch` tells it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e2e.cluster.kubectl import binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO, Self

    from e2e.kube import Json


@dataclass(frozen=True)
class Seen:
    """One version of a resource; `at` is of the monotonic clock."""

    at: float
    resource: Json

    def conditions(self) -> dict[str, Json]:
        """Return its conditions by type."""
        found: list[Json] = self.resource.get("status", {}).get("conditions", [])
        return {condition["type"]: condition for condition in found}

    def cache(self) -> Json:
        """Return `status.cache`."""
        found: Json = self.resource.get("status", {}).get("cache", {})
        return found


@dataclass
class Watch:
    """A context in which the resources of a cluster are followed."""

    kubeconfig: Path
    seen: dict[tuple[str, str], list[Seen]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        argv = [binary(), f"--kubeconfig={self.kubeconfig}", "get", "llmcacheservices", "--all-namespaces"]
        self._process = subprocess.Popen([*argv, "--watch", "-o", "json"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._thread = threading.Thread(target=self._follow, args=(self._process.stdout,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def history(self, namespace: str, name: str) -> list[Seen]:
        """Return all versions of one resource, oldest first."""
        return list(self.seen.get((namespace, name), ()))

    def _follow(self, stream: IO[str]) -> None:
        with stream:
            for resource in _documents(stream):
                meta = resource["metadata"]
                versions = self.seen.setdefault((meta["namespace"], meta["name"]), [])
                versions.append(Seen(time.monotonic(), resource))


def _documents(lines: IO[str]) -> Iterator[Json]:
    """Yield the objects that kubectl prints one after another, each closed by a brace at the start of a line."""
    held: list[str] = []
    for line in lines:
        held.append(line)
        if line.startswith("}"):
            yield json.loads("".join(held))
            held.clear()
