"""The engines' own counters: where prompt tokens came from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.core.parse import engine_sample

if TYPE_CHECKING:
    from e2e.kube import Kube

ENGINE_PORT = 8000


@dataclass(frozen=True)
class Tokens:
    """Prompt tokens: computed, found in the engine's own cache, taken from LMCache."""

    computed: int = 0
    engine: int = 0
    server: int = 0

    @property
    def total(self) -> int:
        """All prompt tokens."""
        return self.computed + self.engine + self.server

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.computed - other.computed, self.engine - other.engine, self.server - other.server)

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.computed + other.computed, self.engine + other.engine, self.server + other.server)


def read(kube: Kube, pod: str) -> Tokens:
    """Return the counters of one engine pod."""
    sample = engine_sample(pod, "", time.time(), kube.raw(pod, ENGINE_PORT, "/metrics"))
    return Tokens(sample.computed, sample.engine_hits, sample.server_hits)


def read_all(kube: Kube, service: str) -> dict[str, Tokens]:
    """Return the counters of all engine pods of a service."""
    names = [pod["metadata"]["name"] for pod in kube.pods(service, "engine")]
    return {name: read(kube, name) for name in names}
