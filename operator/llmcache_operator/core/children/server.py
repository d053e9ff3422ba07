"""The container of an LMCache server, wherever it stands (lmcache 0.5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import l2, pods
from llmcache_operator.core.quantity import GIBI, canonical, in_mebi
from llmcache_operator.core.sidecar import CONTAINER
from llmcache_operator.core.sizing import sizing
from llmcache_operator.core.target import Component

if TYPE_CHECKING:
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import Json

MP_PORT = 5555
HTTP_PORT = 8080
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - a pod's own address, behind a NetworkPolicy
LOOPBACK = "127.0.0.1"
SILENCE_SECONDS = 30
"""After which a server forgets an engine that does not ping it: LMCache's least, three pings (lmcache 0.5.6)."""


def service_ports() -> list[Json]:
    """Return the ports of a Service of servers: engines also ask over HTTP whether they are known."""
    return [pods.service_port("mp", MP_PORT, "mp"), pods.service_port("http", HTTP_PORT, "http")]


def memory_limit(cache_memory: int) -> int:
    """Return the memory limit, in bytes, of a server that holds `cache_memory` bytes of KV.

    Measured: lmcache 0.5.6 uses 0.5 GiB beside the part of its pool that it has touched.
    """
    return cache_memory + cache_memory // 10 + GIBI


def on_its_way(cache_memory: int) -> int:
    """Return the bytes beside, at most, for KV on its way over TCP: as much as is held, and 2 GiB at least.

    Measured: lmcache 0.5.6 copies what one look-up finds several times over, as Python objects. 160 MB of it ended a
    server that had 0.5 GiB to spare.
    """
    return max(cache_memory, 2 * GIBI)


def arguments(target: Target, *, host: str, more: tuple[str, ...] = ()) -> list[str]:
    """Return the arguments of `lmcache server`, whose MP port is bound to `host`.

    The size is in GiB and may be a fraction; without shared memory up to 20 GiB of it are touched at start (measured),
    so that a pod which can't have its memory says so at once.
    """
    sizes = sizing(target.spec)
    return [
        *("--host", host, "--port", str(MP_PORT)),
        *("--http-host", ANY_ADDRESS, "--http-port", str(HTTP_PORT)),
        *("--l1-size-gb", f"{sizes.server_bytes / GIBI:.10g}"),
        *("--eviction-policy", "LRU", "--eviction-trigger-watermark", f"{float(sizes.fill):.6g}"),
        *("--chunk-size", str(target.spec.cache.chunk_size)),
        *("--worker-reap-timeout-seconds", str(SILENCE_SECONDS)),
        *more,
        *l2.parts(target).args,
    ]


def container(  # noqa: PLR0913 - what differs between topologies
    target: Target, args: list[str], *, http: str, tmp: str, mounts: tuple[Json, ...] = (), more_memory: int = 0
) -> Json:
    """Return the container. `http` names its HTTP port, `tmp` the volume that it may write to.

    It may use `more_memory` bytes than are kept free for it.
    """
    memory = memory_limit(sizing(target.spec).server_bytes)
    own = {
        "HOME": "/tmp",  # noqa: S108 - an emptyDir of this pod
        "USER": "llmcache",
        "PYTHONHASHSEED": "0",
        "LMCACHE_TRACK_USAGE": "false",
        "LMCACHE_DISABLE_BANNER": "1",
        "DO_NOT_TRACK": "1",
    }
    cpu, behind = canonical(target.spec.cache.cpu), l2.parts(target)
    health = l2.server_health(target) or ("/healthcheck", http)
    return {
        "name": CONTAINER,
        "image": target.cache_server_image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "command": ["lmcache", "server"],
        "args": args,
        "env": [*pods.environment(own, target.spec.cache.env), *behind.env],
        "ports": [pods.port(http, HTTP_PORT)],
        "resources": {
            "requests": {"cpu": cpu, "memory": in_mebi(memory)},
            "limits": {"memory": in_mebi(memory + more_memory)},
        },
        "securityContext": pods.container_security(read_only_root=True),
        "startupProbe": pods.http_probe("/healthcheck", http, period=1, failures=300),
        "livenessProbe": pods.http_probe(*health, period=10, failures=6, timeout=10),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": tmp, "mountPath": "/tmp"}, *mounts, *behind.mounts],  # noqa: S108 - likewise
    }


def own_pod(
    target: Target,
    *,
    more: tuple[str, ...],
    env: tuple[Json, ...] = (),
    placement: Json | None = None,
    more_memory: int = 0,
) -> Json:
    """Return the template of pods that hold nothing but a server, which engines reach by a Service.

    `more` are arguments, `env` variables of the container, `placement` parts of the pod's spec, `more_memory` bytes
    that it may use beside what is kept free for it.
    """
    args = arguments(target, host=ANY_ADDRESS, more=more)
    made = container(target, args, http="http", tmp="tmp", more_memory=more_memory)
    made["ports"].insert(0, pods.port("mp", MP_PORT))
    made["env"] += env
    made["readinessProbe"] = pods.http_probe("/healthcheck", "http", period=2, failures=3)
    behind = l2.parts(target)
    spec: Json = {
        **(placement or {}),
        "containers": [made],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *behind.volumes],
    }
    if behind.sidecars:
        spec["initContainers"] = list(behind.sidecars)
    return pods.pod_template(target, Component.CACHE_SERVER, target.spec.cache.template, spec)
