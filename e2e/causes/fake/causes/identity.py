"""Engines and server that disagree on what is part of a key, or of the meaning of KV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.causes.cause import Cause
from e2e.causes.fake.fleet import Fleet, engine_pod

if TYPE_CHECKING:
    from collections.abc import Callable

EFFECTIVE, MISMATCH = "CacheEffective", "IdentityMismatch"


def _with_args(*args: str, **fields: object) -> Callable[[Fleet], None]:
    """Put a pod that was started with more arguments in the place of the second engine."""

    def inject(fleet: Fleet) -> None:
        template = fleet.template("engine")
        template["spec"]["containers"][0]["args"] += args
        fleet.make_pod(engine_pod(1), "engine", template)
        fleet.restart_engine(1, **fields)

    return inject


def _as_written(**fields: object) -> Callable[[Fleet], None]:
    """Put the operator's own pod back."""

    def cure(fleet: Fleet) -> None:
        fleet.make_pod(engine_pod(1), "engine")
        fleet.restart_engine(1, **fields)

    return cure


CAUSES: tuple[Cause[Fleet], ...] = (
    Cause(
        "Other weights at the same path, on one engine",
        "one engine restarted with another fingerprint in its model path (`root` of /v1/models)",
        EFFECTIVE,
        MISMATCH,
        lambda fleet: fleet.restart_engine(1, root=f"{fleet.root[:-12]}ba9876543210"),
        lambda fleet: fleet.restart_engine(1, root=fleet.root),
    ),
    Cause(
        "Other chunk size on the cache server",
        "the server restarted with a chunk size of 512 under engines that run with 256",
        EFFECTIVE,
        MISMATCH,
        lambda fleet: fleet.restart_cache_server(chunk_tokens=512),
        lambda fleet: fleet.restart_cache_server(chunk_tokens=256),
        after=frozenset({"Effective", "CacheEmptied"}),
    ),
    Cause(
        "Other dtype on one engine",
        "one engine pod with `--dtype float16` at the end of its arguments",
        EFFECTIVE,
        MISMATCH,
        _with_args("--dtype", "float16"),
        _as_written(),
    ),
    Cause(
        "Other tensor parallel size on one engine",
        "one engine pod with `--tensor-parallel-size 2`, registered with a world of 2",
        EFFECTIVE,
        MISMATCH,
        _with_args("--tensor-parallel-size", "2", world_size=2),
        _as_written(world_size=1),
    ),
    Cause(
        "Other type of KV on one engine",
        "one engine whose KV cache is fp8 (`cache_dtype` in vllm:cache_config_info)",
        EFFECTIVE,
        MISMATCH,
        _with_args("--kv-cache-dtype", "fp8", cache_dtype="fp8"),
        _as_written(cache_dtype="auto"),
    ),
)
