"""Topology NodeLocal: an LMCache server on each node of the engines, which copies KV from and to their GPUs itself.

Read in source (lmcache 0.5.6, lmcache/v1/multiprocess/transfer_context, …/config.py) and not run on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import server
from llmcache_operator.core.children.parts import EngineParts
from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

# Both sides then use what works across containers that share no host IPC namespace and no /dev/shm.
_DIRECT = ("--supported-transfer-mode", "lmcache_driven", "--isolated-ipc")


class NodeLocal:
    """One server for the engines of each node."""

    def children(self, target: Target) -> tuple[Json, ...]:
        """Return the Service, which leads to the server of the asking pod's own node only, and the DaemonSet."""
        service: Json = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": target.metadata(Component.CACHE_SERVER),
            "spec": {
                "selector": target.own_selector(Component.CACHE_SERVER),
                "ports": server.service_ports(),
                "internalTrafficPolicy": "Local",
            },
        }
        return (service, _daemon_set(target))

    def engine_parts(self, target: Target) -> EngineParts:
        """Return that the server reaches into the engines' GPUs."""
        connector = {"lmcache.mp.mp_transfer_mode": "lmcache_driven", "lmcache.mp.isolated_ipc": True}
        return EngineParts(target.name(Component.CACHE_SERVER), connector)


def _daemon_set(target: Target) -> Json:
    # It sees all GPUs of the node without taking any from the scheduler.
    gpus: Json = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}
    template = server.own_pod(target, more=_DIRECT, env=(gpus,), placement=_placement(target))
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": target.metadata(Component.CACHE_SERVER),
        "spec": {
            "selector": {"matchLabels": target.own_selector(Component.CACHE_SERVER)},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": template,
        },
    }


def _placement(target: Target) -> Json:
    """Return where engines may be: there the servers are, unless spec.cache.template says otherwise."""
    engines = target.spec.engine.template.spec
    near = engines.affinity.get("nodeAffinity")
    found = {
        "nodeSelector": engines.node_selector,
        "tolerations": engines.tolerations,
        "affinity": {"nodeAffinity": near} if near else {},
        "runtimeClassName": engines.runtime_class_name,
    }
    return {name: value for name, value in found.items() if value}
