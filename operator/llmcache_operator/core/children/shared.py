"""Topology Shared: one LMCache server in a StatefulSet, which every engine reaches over TCP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import pods, server
from llmcache_operator.core.children.parts import EngineParts
from llmcache_operator.core.sizing import sizing
from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json


class Shared:
    """One server for all engines of a service."""

    def children(self, target: Target) -> tuple[Json, ...]:
        """Return the headless Service and the StatefulSet."""
        service = pods.headless_service(target, Component.CACHE_SERVER, server.service_ports())
        return (service, _stateful_set(target))

    def engine_parts(self, target: Target) -> EngineParts:
        """Return that engines copy KV themselves, over TCP, to the Service's name; they are in its namespace.

        On a GPU the default mode would need the server on the same node. Source: lmcache 0.5.6,
        lmcache/v1/multiprocess/transfer_mode.py.
        """
        return EngineParts(target.name(Component.CACHE_SERVER), {"lmcache.mp.mp_transfer_mode": "engine_driven"})


def _stateful_set(target: Target) -> Json:
    # Transfer mode `auto`, because the default hangs CPU engines at start-up.
    room = server.on_its_way(sizing(target.spec).server_bytes)
    template = server.own_pod(target, more=("--supported-transfer-mode", "auto"), more_memory=room)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": target.metadata(Component.CACHE_SERVER),
        "spec": {
            "replicas": 1,
            "serviceName": target.name(Component.CACHE_SERVER),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": target.selector(Component.CACHE_SERVER)},
            "template": template,
        },
    }
