"""Topology PerEngine: an LMCache server beside each engine, in its pod. KV moves through shared memory.

Its MP port is bound to the loopback address, so that nothing outside the pod can reach the port that unpickles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import l2, server
from llmcache_operator.core.children.parts import EngineParts
from llmcache_operator.core.sizing import sizing

if TYPE_CHECKING:
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import Json

HTTP_PORT_NAME = "cache-http"
# Shared memory that is allocated lazily is not offered to engines: lmcache 0.5.6,
# lmcache/v1/multiprocess/engine_context.py. On CPUs nothing of it is touched until it is used.
_SHARED_MEMORY = (
    *("--supported-transfer-mode", "engine_driven"),
    *("--shm-name", "llmcache", "--no-l1-use-lazy"),
)


class PerEngine:
    """One server for each engine; what engines share, they share through an L2."""

    def children(self, target: Target) -> tuple[Json, ...]:
        """Return nothing: the servers are part of the engine pods."""
        del target
        return ()

    def engine_parts(self, target: Target) -> EngineParts:
        """Return the server as a native sidecar: the kubelet starts it before the engine and stops it after.

        Engines copy KV themselves, also on a GPU: the sidecar has none.
        """
        behind = l2.parts(target)
        return EngineParts(
            server.LOOPBACK,
            {"lmcache.mp.mp_transfer_mode": "engine_driven"},
            sidecars=(*behind.sidecars, _sidecar(target)),
            volumes=({"name": "cache-tmp", "emptyDir": {}}, *behind.volumes),
            shared_memory=sizing(target.spec).server_bytes,
        )


def _sidecar(target: Target) -> Json:
    """Return the server. It has no readiness probe: an engine serves on, computing, while its server restarts."""
    args = server.arguments(target, host=server.LOOPBACK, more=_SHARED_MEMORY)
    shm = {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - an emptyDir of this pod
    made = server.container(target, args, http=HTTP_PORT_NAME, tmp="cache-tmp", mounts=(shm,))
    return made | {"restartPolicy": "Always"}
