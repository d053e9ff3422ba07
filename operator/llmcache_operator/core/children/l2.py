"""The second tier as an LMCache server is told of it, and what stands beside the server for it.

Adapters and their keys: lmcache 0.5.6, lmcache/v1/distributed/l2_adapters and …/serde.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.api.fields import Switch
from llmcache_operator.core.children import pods
from llmcache_operator.core.children.valkey import PORT, password_secret
from llmcache_operator.core.sidecar import GUARD, SWEEPER
from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmcache_operator.api.l2 import L2, S3, FileSystem, Valkey
    from llmcache_operator.core.values import Json

GUARD_PORT = 6380
GUARD_HTTP_PORT = 9091
GUARD_HTTP_PORT_NAME = "l2"
CONNECTIONS = 4
"""Of an LMCache server to Valkey: 160 MB in chunks of 6 MB took 0.10 s over four and 0.13 s over eight, whose buffers
are more than the processor's caches hold (two cores, one of them busy)."""
SWEEPER_PROGRAM = "llmcache-l2-sweeper"
_FILES, _KEY, _CA = "/llmcache/l2", "/llmcache/l2-key", "/llmcache/l2-ca"
_SECRET_MODE = 0o440


@dataclass(frozen=True, slots=True)
class L2Parts:
    """More arguments, environment and mounts of an LMCache server; containers before it; volumes of its pod."""

    args: tuple[str, ...] = ()
    env: tuple[Json, ...] = ()
    mounts: tuple[Json, ...] = ()
    volumes: tuple[Json, ...] = ()
    sidecars: tuple[Json, ...] = ()


def parts(target: Target) -> L2Parts:
    """Return what the L2 of a service makes of each LMCache server. Nothing where there is none."""
    wanted = target.spec.cache.l2
    if wanted is None:
        return L2Parts()
    adapters = [json.dumps(adapter | _serde(wanted), separators=(",", ":")) for adapter in _adapters(wanted)]
    return L2Parts(
        args=(
            *(arg for adapter in adapters for arg in ("--l2-adapter", adapter)),
            # Else what is loaded from the L2 is dropped once it was read, and loaded again the next time.
            *("--l2-prefetch-policy", "retain"),
        ),
        env=tuple(_env(wanted)),
        mounts=tuple({"name": volume["name"], "mountPath": path} | how for volume, path, how in _volumes(wanted)),
        volumes=(*(volume for volume, _, _ in _volumes(wanted)), *_guard_volumes(wanted)),
        sidecars=tuple(_sidecars(target, wanted)),
    )


def guarded(target: Target) -> bool:
    """Whether a guard stands beside each LMCache server of a service."""
    return bool(target.spec.cache.l2 and target.spec.cache.l2.valkey)


def server_health(target: Target) -> tuple[str, int] | None:
    """Return the path and port that tell if an LMCache server is well, where its guard knows more than it.

    A server that has lost its guard says that it is well, and has no L2 any more. See llmcache_runtime.l2guard.
    """
    return ("/server", GUARD_HTTP_PORT) if guarded(target) else None


def _sidecars(target: Target, wanted: L2) -> Iterator[Json]:
    if wanted.valkey:
        yield _guard(target, wanted.valkey)
    if wanted.file_system:
        yield _sweeper(target, wanted.file_system)


def _adapters(wanted: L2) -> Iterator[Json]:
    if wanted.valkey:
        reached = {"type": "resp", "host": "127.0.0.1", "port": GUARD_PORT, "num_workers": CONNECTIONS}
        yield wanted.valkey.extra | reached
    if wanted.file_system:
        yield _file_system(wanted.file_system)
    if wanted.s3:
        yield _s3(wanted.s3)


def _file_system(wanted: FileSystem) -> Json:
    """Return the adapter; each server writes in a folder of its own before it renames, since servers share the rest."""
    return wanted.extra | {
        "type": "fs",
        "base_path": _folder(wanted),
        "relative_tmp_dir": ".writing-$(POD_NAME)",
    }


def _folder(wanted: FileSystem) -> str:
    return f"{_FILES}/{wanted.path}"


def _s3(wanted: S3) -> Json:
    host = wanted.endpoint or f"s3.{wanted.region}.amazonaws.com"
    return wanted.extra | {
        "type": "s3",
        "s3_endpoint": f"s3://{wanted.bucket}.{host}",
        "s3_region": wanted.region,
        "disable_tls": wanted.tls is Switch.DISABLED,
    }


def _serde(wanted: L2) -> Json:
    if wanted.compression:
        return {"serde": {"type": "fp8"}}
    if wanted.encryption_key_secret_ref:
        return {"serde": {"type": "aesgcm", "aes_bits": 256, "master_key_path": f"{_KEY}/key"}}
    return {}


def _env(wanted: L2) -> Iterator[Json]:
    if wanted.file_system:
        yield {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
    if wanted.s3 and wanted.s3.credentials_secret_ref:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            ref = {"name": wanted.s3.credentials_secret_ref.name, "key": name}
            yield {"name": name, "valueFrom": {"secretKeyRef": ref}}


def _volumes(wanted: L2) -> Iterator[tuple[Json, str, Json]]:
    """Yield the server's volumes, where they are mounted and how."""
    if wanted.file_system:
        claim = {"claimName": wanted.file_system.claim_name}
        yield {"name": "l2-files", "persistentVolumeClaim": claim}, _FILES, {}
    if ref := wanted.encryption_key_secret_ref:
        yield _secret_volume("l2-key", ref.name, ref.key, "key"), _KEY, {"readOnly": True}


def _guard_volumes(wanted: L2) -> tuple[Json, ...]:
    external = wanted.valkey.external if wanted.valkey else None
    if external and external.tls and external.tls.ca_secret_ref:
        ref = external.tls.ca_secret_ref
        return (_secret_volume("l2-ca", ref.name, ref.key, "ca.crt"),)
    return ()


def _secret_volume(name: str, secret: str, key: str, file: str) -> Json:
    items = [{"key": key, "path": file}]
    return {"name": name, "secret": {"secretName": secret, "defaultMode": _SECRET_MODE, "items": items}}


def _guard(target: Target, wanted: Valkey) -> Json:
    """Return the native sidecar that LMCache reaches its store through: see docs/adr/0011."""
    args, password = _store(target, wanted)
    mounts = [{"name": "l2-ca", "mountPath": _CA, "readOnly": True}] if "--tls-ca" in args else []
    env = [{"name": "LLMCACHE_L2_PASSWORD", "valueFrom": {"secretKeyRef": password}}] if password else []
    return {
        "name": GUARD,
        "image": target.settings.router_image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "restartPolicy": "Always",
        "command": ["llmcache-l2-guard"],
        "args": [
            *args,
            *("--listen", f"127.0.0.1:{GUARD_PORT}", "--connections", str(CONNECTIONS)),
            *("--http-port", str(GUARD_HTTP_PORT)),
        ],
        **({"env": env} if env else {}),
        "ports": [pods.port(GUARD_HTTP_PORT_NAME, GUARD_HTTP_PORT)],
        # It holds a megabyte of a value for each connection, however large values are. CPU as Valkey has: with 50m it
        # waited longer for an engine's worker, which spins, than it worked (on two cores).
        "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": pods.container_security(read_only_root=True),
        "startupProbe": pods.http_probe("/healthz", GUARD_HTTP_PORT_NAME, period=1, failures=60),
        "livenessProbe": pods.http_probe("/healthz", GUARD_HTTP_PORT_NAME, period=10, failures=6, timeout=10),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **({"volumeMounts": mounts} if mounts else {}),
    }


def _sweeper(target: Target, wanted: FileSystem) -> Json:
    """Return the native sidecar that keeps room in the volume: LMCache does not, nor starts without (docs/adr/0016)."""
    command = [SWEEPER_PROGRAM, "--folder", _folder(wanted)]
    return {
        "name": SWEEPER,
        "image": target.settings.router_image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "restartPolicy": "Always",
        "command": command,
        "resources": {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": pods.container_security(read_only_root=True),
        # The server starts after this.
        "startupProbe": {
            "exec": {"command": [*command, "--probe"]},
            "periodSeconds": 2,
            "timeoutSeconds": 10,
            "failureThreshold": 300,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "l2-files", "mountPath": _FILES}],
    }


def _store(target: Target, wanted: Valkey) -> tuple[list[str], Json | None]:
    """Return the guard's arguments for where the store is, and the key of the Secret with its password."""
    external = wanted.external
    if external is None:
        return ["--store", f"{target.name(Component.VALKEY)}:{PORT}"], password_secret(target)
    args = ["--store", external.address]
    if external.username:
        args += ["--username", external.username]
    if external.tls:
        args += ["--tls"]
        args += ["--tls-ca", f"{_CA}/ca.crt"] if external.tls.ca_secret_ref else []
    ref = external.password_secret_ref
    return args, {"name": ref.name, "key": ref.key} if ref else None
