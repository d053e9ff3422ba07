"""How much each part of the cache holds, in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.core.quantity import to_bytes

if TYPE_CHECKING:
    from llmcache_operator.api.spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class Sizing:
    """`server_bytes`: of the L1 of each LMCache server."""

    server_bytes: int


def sizing(spec: ServiceSpec) -> Sizing:
    """Return the sizes that a spec asks for."""
    return Sizing(server_bytes=to_bytes(spec.cache.memory))
