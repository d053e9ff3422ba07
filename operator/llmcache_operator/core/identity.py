"""The cache identity: one hash of all that must agree for cached KV to be usable.

LMCache's key holds the path of the model, not its weights (measured: new weights under an old path silently get the
old model's KV). So the path that engines see carries this identity, and the start gate adds a fingerprint of the
weights that are really there.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from llmcache_operator.api.service import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmcache_operator.api.cache import CacheSpec
    from llmcache_operator.api.pods import EnvVar
    from llmcache_operator.core.target import Target

LENGTH = 12
ANNOTATION = f"{GROUP}/cache-identity"
"""What engine pods are stamped with."""

# Short options count too (-q is --quantization); a negative number is a value.
_OPTION = re.compile(r"--|-[A-Za-z]")

# Options of vLLM 0.32 that can't change what a token's KV is. Anything that is not listed here counts: a cold cache is
# cheaper than a wrong one.
NEUTRAL_ARGS = frozenset(
    {
        "--allow-credentials",
        "--allowed-headers",
        "--allowed-methods",
        "--allowed-origins",
        "--api-server-count",
        "--async-scheduling",
        "--chat-template",
        "--chat-template-content-format",
        "--default-chat-template-kwargs",
        "--device-memory-utilization",
        "--disable-uvicorn-access-log",
        "--enable-auto-tool-choice",
        "--enable-log-requests",
        "--enable-prompt-tokens-details",
        "--enable-request-id-headers",
        "--enforce-eager",
        "--generation-config",
        "--gpu-memory-utilization",
        "--guided-decoding-backend",
        "--long-prefill-token-threshold",
        "--max-log-len",
        "--max-logprobs",
        "--max-num-batched-tokens",
        "--max-num-seqs",
        "--override-generation-config",
        "--reasoning-parser",
        "--response-role",
        "--return-tokens-as-token-ids",
        "--scheduling-policy",
        "--tool-call-parser",
        "--tool-parser-plugin",
        "--uvicorn-log-level",
    }
)
# Likewise for variables, the user's own and those of libraries included: memory, threads, logs, time and addresses.
NEUTRAL_ENV_PREFIXES = ("HF_", "OTEL_")
NEUTRAL_ENV = frozenset(
    {
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "LMCACHE_DISABLE_BANNER",
        "LMCACHE_LOG_LEVEL",
        "LMCACHE_TRACK_USAGE",
        "NO_PROXY",
        "OMP_NUM_THREADS",
        "TZ",
        "VLLM_CONFIGURE_LOGGING",
        "VLLM_CPU_NUM_OF_RESERVED_CPU",
        "VLLM_CPU_OMP_THREADS_BIND",
        "VLLM_ENGINE_READY_TIMEOUT_S",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE",
        "VLLM_LOGGING_LEVEL",
        "VLLM_LOG_STATS_INTERVAL",
        "VLLM_NO_USAGE_STATS",
        "VLLM_RPC_TIMEOUT",
    }
)


def identity(target: Target) -> str:
    """Return the identity of a service's cache: 12 hexadecimal digits."""
    model, engine, cache = target.spec.model, target.spec.engine, target.spec.cache
    parts = {
        "model": model.uri,
        "revision": model.revision,
        "dtype": engine.dtype,
        "device": engine.device,
        "maxModelLen": engine.max_model_len,
        "blockSize": engine.block_size,
        "tensorParallelSize": engine.tensor_parallel_size,
        "chunkSize": cache.chunk_size,
        **_serde(cache),
        "engineImage": target.engine_image,
        "cacheServerImage": target.cache_server_image,
        # In the user's order: of two spellings of one option (-q, --quantization) the last wins.
        "args": list(_relevant_args(engine.args)),
        "env": sorted([*_relevant_env("engine", engine.env), *_relevant_env("cache", cache.env)]),
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def _serde(cache: CacheSpec) -> dict[str, object]:
    """Return what is done to KV on its way to the L2; nothing where nothing is, so that caches outlive this field."""
    l2 = cache.l2
    if l2 is None:
        return {}
    tiers = (l2.valkey, l2.file_system, l2.s3)
    done = {
        "compression": l2.compression,
        "encrypted": bool(l2.encryption_key_secret_ref),
        "serde": [tier.extra["serde"] for tier in tiers if tier and "serde" in tier.extra],
    }
    return {name: value for name, value in done.items() if value}


def _relevant_args(args: Sequence[str]) -> Iterator[list[str]]:
    """Yield each option with its values, less the neutral ones; `--x=1` is `--x 1`."""
    for option, *values in _options(args):
        name, is_inline, inline = option.partition("=")
        if name.replace("_", "-").split(".")[0] not in NEUTRAL_ARGS:
            yield [name.replace("_", "-"), *([inline] if is_inline else []), *values]


def _options(args: Sequence[str]) -> Iterator[list[str]]:
    """Group arguments: an option, long or short, and the values up to the next one."""
    group: list[str] = []
    for arg in args:
        if _OPTION.match(arg) and group:
            yield group
            group = []
        group.append(arg)
    if group:
        yield group


def _relevant_env(part: str, env: Sequence[EnvVar]) -> Iterator[list[str]]:
    for entry in env:
        neutral = entry.name.upper() in NEUTRAL_ENV or entry.name.startswith(NEUTRAL_ENV_PREFIXES)
        if not neutral:
            yield [part, entry.name, entry.value or "", json.dumps(entry.value_from, sort_keys=True)]
