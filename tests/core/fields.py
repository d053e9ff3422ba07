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


def _under(part: str, rows: dict[str, Row]) -> dict[str, Row]:
    return {f"{part}.{path}": row for path, row in rows.items()}


ROWS = {
    "model.uri": Row("pvc://models/other", (ENGINE,)),
    "model.revision": Row("2", (ENGINE,)),
    "model.servedName": Row("smol", (ENGINE,)),
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
            "topology": Row("PerEngine", (*OWN_CACHE, ENGINE, "NetworkPolicy/chat-engine")),
            "memory": Row("16Gi", (CACHE,)),
            "chunkSize": Row(512, (CACHE, ENGINE)),
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


def with_all(paths: Iterable[str] = ROWS) -> dict[str, Any]:
    """A valid spec with many fields set at once: what a field can't do without comes with it."""
    chosen = set(paths)
    chosen |= {path.replace("volumeMounts", "volumes").replace("SecretRef.key", "SecretRef.name") for path in chosen}
    tokens = any("tokenSecretRef" in path for path in chosen)
    spec = with_field({}, "model", TOKEN["model"] if tokens else MODEL)
    for path in sorted(chosen - ({"model.uri"} if tokens else set())):
        spec = with_field(spec, path, ROWS[path].value)
    return spec
