"""Every field of the spec, a value for it, and the children that this value changes. A new field needs a row here."""

from __future__ import annotations

import copy
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from llmcache_operator.api.fields import Model
from llmcache_operator.api.spec import ServiceSpec
from tests.core.samples import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENGINE, CACHE, ROUTER = "Deployment/chat-engine", "StatefulSet/chat-cache", "Deployment/chat-router"
VALKEY = "StatefulSet/chat-valkey"
POLICIES = tuple(f"NetworkPolicy/chat-{part}" for part in ("cache", "engine", "router"))
OWN_CACHE = (
    CACHE,
    "Service/chat-cache",
    "NetworkPolicy/chat-cache",
    "PodDisruptionBudget/chat-cache",
)
GATEWAY_POLICIES = ("NetworkPolicy/chat-engine", "NetworkPolicy/chat-router")
NEAR = {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}
HUB = {"model": {"uri": "hf://org/repo"}}
KEYS = {"router": {"auth": {"apiKeysSecretRef": {"name": "keys"}}}}
SHAPE = {"layers": 32, "heads": 8, "headDim": 128}
KV = {"model": {"uri": MODEL["uri"], "kv": SHAPE}}
USERS = {**KV, "cache": {"capacity": {"users": 10, "tokensPerUser": "20k"}}}
MANAGED: dict[str, Any] = {"cache": {"l2": {"valkey": {"managed": {"memory": "1Gi"}}}}}
PERSISTENT: dict[str, Any] = {
    "cache": {"l2": {"valkey": {"managed": {"memory": "1Gi", "persistence": {"size": "4Gi"}}}}}
}
EXTERNAL: dict[str, Any] = {"cache": {"l2": {"valkey": {"external": {"address": "valkey.infra:6379"}}}}}
FILES: dict[str, Any] = {"cache": {"l2": {"fileSystem": {"claimName": "kv"}}}}
ENCRYPTED: dict[str, Any] = {
    "cache": {"l2": {"fileSystem": {"claimName": "kv"}, "encryptionKeySecretRef": {"name": "keys"}}}
}
BUCKET: dict[str, Any] = {"cache": {"l2": {"s3": {"bucket": "kv-1", "region": "eu-central-1"}}}}
TOKEN = {"model": {"uri": "hf://org/repo", "tokenSecretRef": {"name": "hub"}}}


@dataclass(frozen=True)
class Row:
    """A value of one field; `base` is the spec without it."""

    value: Any
    changes: tuple[str, ...]
    base: dict[str, Any] = field(default_factory=dict)


def _template(child: str) -> dict[str, Row]:
    values: dict[str, Any] = {
        "metadata.labels": {"team": "chat"},
        "metadata.annotations": {"example.com/owner": "chat"},
        "spec.nodeSelector": {"gpu": "h100"},
        "spec.tolerations": [{"key": "gpu", "operator": "Exists"}],
        "spec.affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [NEAR]}},
        "spec.topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "spec.priorityClassName": "system-node-critical",
        "spec.runtimeClassName": "nvidia",
        "spec.imagePullSecrets": [{"name": "registry"}],
        "spec.securityContext": {"runAsUser": 1000, "fsGroup": 1000},
        "spec.terminationGracePeriodSeconds": 300,
        "spec.volumes": [{"name": "extra", "emptyDir": {"sizeLimit": "1Gi"}}],
        "spec.volumeMounts": [{"name": "extra", "mountPath": "/extra"}],
    }
    return {f"template.{path}": Row(value, (child,)) for path, value in values.items()}


def _resources(child: str) -> dict[str, Row]:
    return {
        "resources.requests": Row({"cpu": "1500m", "memory": "1024Mi"}, (child,)),
        "resources.limits": Row({"cpu": 4, "memory": "1.5Gi"}, (child,)),
    }


def _l2() -> dict[str, Row]:
    """Fields of the tier behind; a server's pod changes with them, and the engines' where it is in theirs."""
    own = ("Service/chat-valkey", VALKEY, "NetworkPolicy/chat-valkey", "PodDisruptionBudget/chat-valkey")
    managed = {
        "memory": Row("2Gi", (*own, CACHE, "NetworkPolicy/chat-cache", "NetworkPolicy/chat-engine")),
        "cpu": Row("2", (VALKEY,), MANAGED),
        "image": Row("valkey:9", (VALKEY,), MANAGED),
        "persistence.size": Row("8Gi", (VALKEY,), MANAGED),
        "persistence.storageClassName": Row("fast", (VALKEY,), PERSISTENT),
        **{path: Row(row.value, row.changes, MANAGED) for path, row in _template(VALKEY).items()},
    }
    external = {
        "address": Row("valkey.infra:6379", (CACHE, "NetworkPolicy/chat-cache", "NetworkPolicy/chat-engine")),
        "username": Row("lmcache", (CACHE,), EXTERNAL),
        "passwordSecretRef.name": Row("valkey", (CACHE,), EXTERNAL),
        "passwordSecretRef.key": Row("other", (CACHE,), _external(passwordSecretRef={"name": "valkey"})),
        "tls.caSecretRef.name": Row("ca", (CACHE,), EXTERNAL),
        "tls.caSecretRef.key": Row("root.pem", (CACHE,), _external(tls={"caSecretRef": {"name": "ca"}})),
    }
    s3 = {
        "bucket": Row("kv-2", (CACHE,), BUCKET),
        "region": Row("eu-west-1", (CACHE,), BUCKET),
        "endpoint": Row("minio.infra:9000", (CACHE,), BUCKET),
        "credentialsSecretRef.name": Row("aws", (CACHE,), BUCKET),
        "tls": Row("Disabled", (CACHE,), BUCKET),
        "extra": Row({"s3_num_io_threads": 8}, (CACHE,), BUCKET),
    }
    files = {
        "claimName": Row("kv", (CACHE,)),
        "path": Row("other", (CACHE,), FILES),
        "extra": Row({"read_ahead_size": 4096}, (CACHE,), FILES),
    }
    return {
        **_under("valkey.managed", managed),
        **_under("valkey.external", external),
        "valkey.extra": Row({"max_capacity_gb": 1}, (CACHE,), EXTERNAL),
        **_under("fileSystem", files),
        **_under("s3", s3),
        "compression": Row("FP8", (CACHE, ENGINE), FILES),
        "encryptionKeySecretRef.name": Row("keys", (CACHE, ENGINE), FILES),
        "encryptionKeySecretRef.key": Row("other", (CACHE,), ENCRYPTED),
    }


def _external(**fields: Any) -> dict[str, Any]:
    return {"cache": {"l2": {"valkey": {"external": {"address": "valkey.infra:6379"} | fields}}}}


def _under(part: str, rows: dict[str, Row]) -> dict[str, Row]:
    return {f"{part}.{path}": row for path, row in rows.items()}


ROWS = {
    "model.uri": Row("pvc://models/other", (ENGINE,)),
    "model.revision": Row("2", (ENGINE,)),
    "model.servedName": Row("smol", (ENGINE,)),
    **_under(
        "model.kv",
        {
            "layers": Row(16, (CACHE,), USERS),
            "heads": Row(4, (CACHE,), USERS),
            "headDim": Row(64, (CACHE,), USERS),
            "planes": Row(1, (CACHE,), USERS),
            "dtype": Row("float32", (CACHE,), USERS),
        },
    ),
    "model.tokenSecretRef.name": Row("hub", (ENGINE,), HUB),
    "model.tokenSecretRef.key": Row("hf", (ENGINE,), TOKEN),
    **_under(
        "engine",
        {
            "replicas": Row(3, (ENGINE,)),
            "image": Row("engine:2", (ENGINE,)),
            "device": Row("CPU", (ENGINE,)),
            "dtype": Row("float16", (ENGINE,)),
            "maxModelLen": Row(8192, (ENGINE,)),
            "blockSize": Row(64, (ENGINE,)),
            "tensorParallelSize": Row(2, (ENGINE,)),
            "kvCacheMemory": Row("2Gi", (ENGINE,)),
            "args": Row(["--max-num-seqs=8"], (ENGINE,)),
            "env": Row([{"name": "HF_HOME", "value": "/models/hub"}], (ENGINE,)),
            **_resources(ENGINE),
            **_template(ENGINE),
        },
    ),
    **_under(
        "cache",
        {
            "topology": Row("PerEngine", (*OWN_CACHE, ENGINE, ROUTER)),
            "memory": Row("16Gi", (CACHE,)),
            "capacity.tokens": Row("2M", (CACHE,), KV),
            "capacity.users": Row(300, (CACHE,), USERS),
            "capacity.tokensPerUser": Row("40k", (CACHE,), USERS),
            **_under("l2", _l2()),
            "chunkSize": Row(512, (CACHE, ENGINE)),
            "timeoutSeconds": Row(60, (ENGINE,)),
            "image": Row("cache:2", (CACHE, ENGINE)),
            "env": Row([{"name": "LMCACHE_LOG_LEVEL", "value": "DEBUG"}], (CACHE,)),
            "cpu": Row("2000m", (CACHE,)),
            "selfTest": Row("Disabled", ()),
            **_template(CACHE),
        },
    ),
    **_under(
        "router",
        {
            "replicas": Row(3, (ROUTER,)),
            "policy": Row("LeastLoaded", (ROUTER,)),
            "sessionHeader": Row("x-session-id", (ROUTER,)),
            "type": Row("EndpointPicker", (ROUTER, "Service/chat-router", *GATEWAY_POLICIES)),
            "gatewayNamespace": Row("gateways", GATEWAY_POLICIES, {"router": {"type": "EndpointPicker"}}),
            "auth.apiKeysSecretRef.name": Row("keys", (ROUTER,)),
            "auth.apiKeysSecretRef.key": Row("mine", (ROUTER,), KEYS),
            "tls.secretRef.name": Row("tls", (ROUTER, "Service/chat-router")),
            "adminPaths": Row(["/v1/load_lora_adapter"], (ROUTER,), KEYS),
            "debugHeaders": Row("Enabled", (ROUTER,)),
            **_resources(ROUTER),
            **_template(ROUTER),
        },
    ),
    "networkPolicy": Row("Disabled", POLICIES),
}


def leaves(model: type[Model] = ServiceSpec, prefix: str = "") -> Iterator[str]:
    """The path of every field that holds a value of its own, as users write it."""
    for info in model.model_fields.values():
        path = f"{prefix}{info.alias}"
        inner = next((kind for kind in _kinds(info.annotation) if _is_model(kind)), None)
        if inner is None:
            yield path
        else:
            yield from leaves(inner, f"{path}.")


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Model)


def with_field(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a spec with one field set."""
    changed = copy.deepcopy({"model": dict(MODEL)} | spec)
    *parents, last = path.split(".")
    at = changed
    for name in parents:
        at = at.setdefault(name, {})
    at[last] = value
    return changed


KV_FIELDS = ("model.kv.layers", "model.kv.heads", "model.kv.headDim")
NEEDS = {
    "model.kv": KV_FIELDS,
    "cache.capacity": KV_FIELDS,
    "cache.capacity.user": ("cache.capacity.tokensPerUser",),
    "cache.capacity.tokensPerUser": ("cache.capacity.users",),
    "cache.l2.valkey.managed.persistence": ("cache.l2.valkey.managed.persistence.size",),
    "cache.l2.valkey.e": ("cache.l2.valkey.external.address",),
    "cache.l2.fileSystem": ("cache.l2.fileSystem.claimName",),
    "cache.l2.s3": ("cache.l2.s3.bucket", "cache.l2.s3.region"),
    "cache.l2.compression": ("cache.l2.fileSystem.claimName",),
    "cache.l2.encryption": ("cache.l2.fileSystem.claimName",),
}
# Where a field that begins so is chosen, fields that begin so are left out.
INSTEAD = {
    "cache.memory": ("cache.capacity",),
    "cache.capacity.tokens": ("cache.capacity.users", "cache.capacity.tokensPerUser"),
    "cache.l2.valkey.managed": ("cache.l2.valkey.e",),
    "cache.l2.compression": ("cache.l2.encryption",),
    "cache.topology": ("cache.template",),
}


def _compatible(chosen: set[str]) -> set[str]:
    for start, others in INSTEAD.items():
        if any(path == start or path.startswith(f"{start}.") for path in chosen):
            chosen = {path for path in chosen if not path.startswith(others)}
    return chosen


def with_all(paths: Iterable[str] = ROWS) -> dict[str, Any]:
    """A valid spec with many fields set at once: what a field can't do without comes with it."""
    chosen = set(paths)
    chosen = _compatible(chosen)
    chosen |= {path.replace("volumeMounts", "volumes").replace("SecretRef.key", "SecretRef.name") for path in chosen}
    chosen |= {need for path in chosen for start, needs in NEEDS.items() if path.startswith(start) for need in needs}
    tokens = any("tokenSecretRef" in path for path in chosen)
    spec = with_field({}, "model", TOKEN["model"] if tokens else MODEL)
    for path in sorted(chosen - ({"model.uri"} if tokens else set())):
        spec = with_field(spec, path, ROWS[path].value)
    return spec
