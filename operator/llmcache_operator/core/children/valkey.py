"""A Valkey of the service's own: the L2 that its LMCache servers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import pods
from llmcache_operator.core.quantity import MEBI, canonical, in_mebi
from llmcache_operator.core.sizing import sizing
from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from llmcache_operator.api.l2 import ManagedValkey, Persistence
    from llmcache_operator.core.values import Json

PORT = 6379
DATA = "/data"
_PASSWORD = "password"  # noqa: S105 - the name of a key
# Valkey's command line would show the password to whoever can list processes; it reads a configuration from its input.
# Debian's Redis, which the local cluster uses, understands the same.
COMMAND = """\
server=$(command -v valkey-server || command -v redis-server) || \
  { echo "spec.cache.l2.valkey.managed.image has neither valkey-server nor redis-server" >&2; exit 1; }
exec "$server" "$@" - <<EOF
requirepass $PASSWORD
EOF
"""
PING = '[ "$($(command -v valkey-cli || command -v redis-cli) ping)" = PONG ]'


def password_secret(target: Target) -> Json:
    """Return which key of which Secret holds the password."""
    return {"name": target.name(Component.VALKEY), "key": _PASSWORD}


def build(target: Target) -> tuple[Json, ...]:
    """Return the headless Service and the StatefulSet, or nothing where none is wanted."""
    wanted = target.managed_valkey
    if wanted is None:
        return ()
    ports = [pods.service_port("valkey", PORT, "valkey")]
    return (pods.headless_service(target, Component.VALKEY, ports), _stateful_set(target, wanted))


def secret(target: Target) -> tuple[Json, ...]:
    """Return the Secret with the password, without the password: it is made up once, when it is created."""
    if target.managed_valkey is None:
        return ()
    return (
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": target.metadata(Component.VALKEY),
            "type": "Opaque",
            "immutable": True,
            "stringData": {_PASSWORD: ""},
        },
    )


def memory_limit(maxmemory: int, *, persistent: bool) -> int:
    """Return the memory limit, in bytes, of a Valkey that holds `maxmemory` bytes.

    A quarter more for fragmentation and for the buffers of clients. While a snapshot is written, pages that change are
    there twice (https://valkey.io/topics/persistence/), at worst all of them.
    """
    return maxmemory + (maxmemory if persistent else maxmemory // 4) + 256 * MEBI


def _stateful_set(target: Target, wanted: ManagedValkey) -> Json:
    spec: Json = {"containers": [_container(target, wanted)]}
    claims = {}
    if wanted.persistence is None:
        spec["volumes"] = [{"name": "data", "emptyDir": {}}]
    else:
        claims = {
            "volumeClaimTemplates": [_claim(wanted.persistence)],
            # It is a cache: who deletes the service wants the space back.
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
        }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": target.metadata(Component.VALKEY),
        "spec": {
            "replicas": 1,
            "serviceName": target.name(Component.VALKEY),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": target.selector(Component.VALKEY)},
            "template": pods.pod_template(target, Component.VALKEY, wanted.template, spec),
            **claims,
        },
    }


def _claim(wanted: Persistence) -> Json:
    named = wanted.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": canonical(wanted.size)}},
            **({"storageClassName": named} if named else {}),
        },
    }


def _container(target: Target, wanted: ManagedValkey) -> Json:
    size = sizing(target.spec).valkey_bytes or 0
    memory = in_mebi(memory_limit(size, persistent=wanted.persistence is not None))
    password = {"valueFrom": {"secretKeyRef": password_secret(target)}}
    ping = {"exec": {"command": ["/bin/sh", "-c", PING]}, "timeoutSeconds": 5}
    return {
        "name": "valkey",
        "image": wanted.image or target.settings.valkey_image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "command": ["/bin/sh", "-c", COMMAND, "valkey"],
        "args": [
            *("--port", str(PORT), "--dir", DATA, "--protected-mode", "no"),
            *("--maxmemory", str(size), "--maxmemory-policy", "allkeys-lru"),
            *("--save", "300 1" if wanted.persistence else ""),
        ],
        "env": [{"name": "PASSWORD", **password}, {"name": "REDISCLI_AUTH", **password}],
        "ports": [pods.port("valkey", PORT)],
        "resources": {
            "requests": {"cpu": canonical(wanted.cpu), "memory": memory},
            "limits": {"memory": memory},
        },
        "securityContext": pods.container_security(read_only_root=True),
        # Reading a large snapshot takes minutes, in which it answers LOADING.
        "startupProbe": ping | {"periodSeconds": 1, "failureThreshold": 900},
        "readinessProbe": ping | {"periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": ping | {"periodSeconds": 10, "failureThreshold": 6},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "data", "mountPath": DATA}],
    }
