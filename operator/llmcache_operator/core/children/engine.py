"""The vLLM engines: a Deployment behind a headless Service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmcache_operator.api.spec import Device
from llmcache_operator.core.children import pods, server
from llmcache_operator.core.children.model_source import ModelSource, model_source
from llmcache_operator.core.content import owns_replicas
from llmcache_operator.core.identity import ANNOTATION, identity
from llmcache_operator.core.quantity import MEBI, in_mebi, to_bytes
from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.children.parts import EngineParts
    from llmcache_operator.core.values import Json

HTTP_PORT = 8000
RUN = "/llmcache/run"
CPU_KV_CACHE = "1Gi"
# What vLLM's own processes share there, beside cached KV.
OWN_SHARED_MEMORY = 256 * MEBI
# The gate writes to model-path the link under which it put the model. The link's name carries the cache identity
# and a fingerprint of the weights, because LMCache keys KV by the path that vLLM was given. Init containers don't run
# again when only this container restarts, so it looks for itself whether the files are still those of the fingerprint.
COMMAND = f"""\
command -v find >/dev/null || {{{{ echo "spec.engine.image has no find, which guards against stale KV" >&2; exit 1; }}}}
changed=$(find -L {{folder}} -cnewer {RUN}/model-path -print -quit)
if [ -n "$changed" ]; then
  echo "$changed is newer than this pod's fingerprint of the weights: delete the pod to serve the new ones" >&2
  exit 1
fi
export PYTHONPATH="{RUN}${{{{PYTHONPATH:+:$PYTHONPATH}}}}"
exec vllm serve "$(cat {RUN}/model-path)" "$@"
"""


def build(target: Target, cache: EngineParts, live: Json | None) -> tuple[Json, ...]:
    """Return the headless Service and the Deployment."""
    service = pods.headless_service(target, Component.ENGINE, [pods.service_port("http", HTTP_PORT, "http")])
    return (service, _deployment(target, cache, live))


def replicas(target: Target, live: Json | None) -> int | None:
    """Return the number of engines to apply, or None to leave it to whoever scales the Deployment.

    When the user takes the number out of the spec while the operator alone owns it, the live number is applied on
    until somebody else owns it too: server-side apply would otherwise let it fall back to 1.
    """
    wanted = target.spec.engine.replicas
    if wanted is None and live and owns_replicas(live):
        kept: int | None = live.get("spec", {}).get("replicas")
        return kept
    return wanted


def _deployment(target: Target, cache: EngineParts, live: Json | None) -> Json:
    count = replicas(target, live)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": target.metadata(Component.ENGINE),
        "spec": ({} if count is None else {"replicas": count})
        | {
            "selector": {"matchLabels": target.selector(Component.ENGINE)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": _rollout(count)},
            "progressDeadlineSeconds": 3600,
            "template": _template(target, cache),
        },
    }


def _rollout(count: int | None) -> Json:
    """Replace engines one by one in place: a spare GPU is rare, and the others hold the shared cache meanwhile."""
    return {"maxSurge": 1, "maxUnavailable": 0} if count == 1 else {"maxSurge": 0, "maxUnavailable": 1}


def _template(target: Target, cache: EngineParts) -> Json:
    source = model_source(target)
    spec: Json = {
        "initContainers": [*source.fetch, *cache.sidecars, _gate(target, cache, source)],
        "containers": [_engine(target, cache, source)],
        "volumes": [
            source.volume,
            {"name": "run", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            _shared_memory(cache),
            *cache.volumes,
        ],
    }
    notes = {ANNOTATION: identity(target)}
    return pods.pod_template(target, Component.ENGINE, target.spec.engine.template, spec, notes)


def shared_memory_size(cache_memory: int) -> int:
    """Return the bytes of /dev/shm in a pod whose LMCache server holds `cache_memory` bytes of KV in it.

    Twice: a server that is started again looks whether a whole pool is free while its engine still has the old one
    mapped, and else does without shared memory for good (lmcache 0.5.6, multiprocess/server.py; reproduced). Only
    what is touched counts.
    """
    return 2 * cache_memory + OWN_SHARED_MEMORY


def _shared_memory(cache: EngineParts) -> Json:
    """Return the volume of /dev/shm. Its limit is also its size, and LMCache looks whether its pool fits in."""
    limit = {"sizeLimit": in_mebi(shared_memory_size(cache.shared_memory))} if cache.shared_memory else {}
    return {"name": "shm", "emptyDir": {"medium": "Memory", **limit}}


def _resources(target: Target, cache: EngineParts) -> Json:
    """Return what the user asks for, with room under the memory limit for cached KV in shared memory.

    The kernel charges a page of shared memory to whichever container touches it first, and engines write to it.
    """
    made = pods.resources(target.spec.engine.resources)
    limits = made.get("resources", {}).get("limits", {})
    if cache.shared_memory and "memory" in limits:
        # Without a request, a container asks for its limit.
        made["resources"]["requests"] = {"memory": limits["memory"]} | made["resources"].get("requests", {})
        limits["memory"] = in_mebi(to_bytes(limits["memory"]) + cache.shared_memory)
    return made


def _gate(target: Target, cache: EngineParts, source: ModelSource) -> Json:
    """Return the init container that links the model and waits for the cache server.

    An engine that starts while no server answers never becomes healthy (measured, vLLM 0.32 with lmcache 0.5.6).
    """
    return {
        "name": "gate",
        "image": target.settings.router_image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "command": ["llmcache-gate"],
        "args": [
            *("--cache", f"{cache.host}:{server.MP_PORT}"),
            *("--source", source.folder),
            *("--identity", identity(target)),
            *("--link-dir", RUN),
        ],
        # Little and fixed; a quota on the namespace may ask for it.
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": pods.container_security(read_only_root=True),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [source.mount, {"name": "run", "mountPath": RUN}],
    }


def _engine(target: Target, cache: EngineParts, source: ModelSource) -> Json:
    engine = target.spec.engine
    return {
        "name": "engine",
        "image": target.engine_image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "command": ["/bin/sh", "-c", COMMAND.format(folder=source.folder), "vllm"],
        "args": [*_args(target, cache), *engine.args],
        "env": pods.environment(_env(target), engine.env),
        "ports": [pods.port("http", HTTP_PORT)],
        **_resources(target, cache),
        "securityContext": pods.container_security(read_only_root=False),
        # An hour for large models to load; a crash ends the pod at once in any case.
        "startupProbe": pods.http_probe("/health", "http", period=2, failures=1800),
        "readinessProbe": pods.http_probe("/health", "http", period=5, failures=3, timeout=10),
        "livenessProbe": pods.http_probe("/health", "http", period=10, failures=12, timeout=10),
        "lifecycle": {"preStop": {"sleep": {"seconds": pods.DRAIN_SECONDS}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            source.mount,
            {"name": "run", "mountPath": RUN, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of this pod
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - likewise
        ],
    }


def _args(target: Target, cache: EngineParts) -> list[str]:
    """Return the operator's own arguments for `vllm serve` (vLLM 0.32).

    Its default shutdown timeout of 0 leaves clients of a running stream hanging until the pod is killed (measured).
    """
    engine = target.spec.engine
    args = [
        *("--served-model-name", target.served_name, "--port", str(HTTP_PORT)),
        *("--dtype", engine.dtype.value, "--block-size", str(engine.block_size)),
        *("--enable-prefix-caching", "--kv-transfer-config", _connector(target, cache)),
        # Each answer's `usage` then says how many prompt tokens came from a cache: to clients, and to the self-test.
        "--enable-prompt-tokens-details",
        *("--shutdown-timeout", str(pods.drain_seconds(engine.template))),
    ]
    if engine.max_model_len is not None:
        args += ["--max-model-len", str(engine.max_model_len)]
    if engine.tensor_parallel_size > 1:
        args += ["--tensor-parallel-size", str(engine.tensor_parallel_size)]
    if engine.device is Device.CPU:
        # Compiling on a CPU needs a C++ compiler, which a serving image should not hold.
        args += ["--enforce-eager"]
    if memory := engine.kv_cache_memory or (CPU_KV_CACHE if engine.device is Device.CPU else None):
        args += ["--kv-cache-memory-bytes", str(to_bytes(memory))]
    return args


def _connector(target: Target, cache: EngineParts) -> str:
    """Return the value of `--kv-transfer-config`.

    By default an engine stands still for 300 s when its LMCache server dies or falls silent, and a load that fails
    fails the request (lmcache 0.5.6, `ExtraConfigDefault.mq_timeout`; vLLM 0.32, `KVTransferConfig`; both measured).
    The module is `llmcache_runtime/connector.py`, which the gate leaves beside the model's link.
    """
    reached = {
        "lmcache.mp.host": f"tcp://{cache.host}",
        "lmcache.mp.port": server.MP_PORT,
        "llmcache.status": f"http://{cache.host}:{server.HTTP_PORT}/status",
    }
    patience = {"lmcache.mp.mq_timeout": target.spec.cache.timeout_seconds}
    config = {
        "kv_connector": "LMCacheMPConnector",
        "kv_connector_module_path": "llmcache_connector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": reached | patience | cache.connector,
    }
    return json.dumps(config, separators=(",", ":"))


def _env(target: Target) -> dict[str, str]:
    env = {
        "HOME": "/tmp",  # noqa: S108 - an emptyDir of this pod
        "USER": "llmcache",
        "PYTHONHASHSEED": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "LMCACHE_TRACK_USAGE": "false",
        "DO_NOT_TRACK": "1",
    }
    if target.spec.engine.device is Device.CPU:
        # Pods share cores; binding threads would put every engine of a node on the same ones.
        env["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        # For functions that vLLM compiles despite --enforce-eager: without a compiler in the image, the first
        # request for log probabilities ends the engine (vllm/v1/sample/ops/logprobs.py).
        env["TORCH_COMPILE_DISABLE"] = "1"
    return env
