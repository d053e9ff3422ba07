"""What a cache topology asks of the engine pods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json


@dataclass(frozen=True, slots=True)
class EngineParts:
    """How engines reach their LMCache server, and what of it lives in their own pods.

    `host`: where the server's MP port is. `connector`: more of `kv_connector_extra_config`. `sidecars`: containers
    that start before the engine and stop after it. `volumes`: theirs. `shared_memory`: bytes of the pod's /dev/shm
    that hold cached KV, 0 where none do.
    """

    host: str
    connector: Json = field(default_factory=dict)
    sidecars: tuple[Json, ...] = ()
    volumes: tuple[Json, ...] = ()
    shared_memory: int = 0
