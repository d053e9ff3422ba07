"""Topology Shared: one LMCache server in a StatefulSet, which every engine reaches over TCP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import pods
from llmcache_operator.core.quantity import GIBI, canonical, in_mebi, to_bytes
from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

MP_PORT = 5555
HTTP_PORT = 8080


class Shared:
    """One server for all engines of a service."""

    def children(self, target: Target) -> tuple[Json, ...]:
        """Return the headless Service and the StatefulSet."""
        ports = [pods.service_port("mp", MP_PORT, "mp"), pods.service_port("http", HTTP_PORT, "http")]
        return (pods.headless_service(target, Component.CACHE_SERVER, ports), _stateful_set(target))

    def address(self, target: Target) -> tuple[str, int]:
        """Return the Service's name; engines are in the same namespace."""
        return target.name(Component.CACHE_SERVER), MP_PORT

    def connector(self, target: Target) -> Json:
        """Return how the engines' connector reaches the server, and that engines copy KV themselves.

        On a GPU the default mode would need the server on the same node. Source: lmcache 0.5.6,
        lmcache/v1/multiprocess/transfer_mode.py.
        """
        host, port = self.address(target)
        return {
            "lmcache.mp.host": f"tcp://{host}",
            "lmcache.mp.port": port,
            "lmcache.mp.mp_transfer_mode": "engine_driven",
        }


def memory_limit(cache_memory: int) -> int:
    """Return the memory limit, in bytes, of a server that holds `cache_memory` bytes of KV.

    Measured: lmcache 0.5.6 uses 0.5 GiB beside the part of its pool that it has touched.
    """
    return cache_memory + cache_memory // 10 + GIBI


def server_args(target: Target) -> list[str]:
    """Return the arguments of `lmcache server` (lmcache 0.5.6).

    Transfer mode `auto`, because the default hangs CPU engines at start-up. The size is in GiB and may be a fraction;
    up to 20 GiB of it are touched at start (measured), so that a pod which can't have its memory says so at once.
    """
    size = f"{to_bytes(target.spec.cache.memory) / GIBI:g}"
    return [
        *("--host", "0.0.0.0", "--port", str(MP_PORT)),  # noqa: S104 - a pod's own address, behind a NetworkPolicy
        *("--http-host", "0.0.0.0", "--http-port", str(HTTP_PORT)),  # noqa: S104 - likewise
        *("--l1-size-gb", size),
        *("--eviction-policy", "LRU", "--chunk-size", str(target.spec.cache.chunk_size)),
        *("--supported-transfer-mode", "auto"),
    ]


def _stateful_set(target: Target) -> Json:
    cache = target.spec.cache
    spec: Json = {"containers": [_container(target)], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": target.metadata(Component.CACHE_SERVER),
        "spec": {
            "replicas": 1,
            "serviceName": target.name(Component.CACHE_SERVER),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": target.selector(Component.CACHE_SERVER)},
            "template": pods.pod_template(target, Component.CACHE_SERVER, cache.template, spec),
        },
    }


def _container(target: Target) -> Json:
    cache = target.spec.cache
    memory = in_mebi(memory_limit(to_bytes(cache.memory)))
    own = {
        "HOME": "/tmp",  # noqa: S108 - an emptyDir of this pod
        "USER": "llmcache",
        "PYTHONHASHSEED": "0",
        "LMCACHE_TRACK_USAGE": "false",
        "LMCACHE_DISABLE_BANNER": "1",
        "DO_NOT_TRACK": "1",
    }
    return {
        "name": "cache-server",
        "image": target.cache_server_image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "command": ["lmcache", "server"],
        "args": server_args(target),
        "env": pods.environment(own, cache.env),
        "ports": [pods.port("mp", MP_PORT), pods.port("http", HTTP_PORT)],
        "resources": {"requests": {"cpu": canonical(cache.cpu), "memory": memory}, "limits": {"memory": memory}},
        "securityContext": pods.container_security(read_only_root=True),
        "startupProbe": pods.http_probe("/healthcheck", "http", period=1, failures=300),
        "readinessProbe": pods.http_probe("/healthcheck", "http", period=2, failures=3),
        "livenessProbe": pods.http_probe("/healthcheck", "http", period=10, failures=6, timeout=10),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - likewise
    }
