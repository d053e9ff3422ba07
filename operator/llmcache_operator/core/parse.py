"""Metrics text and JSON of vLLM, LMCache and the router as samples. Names: vLLM 0.32, lmcache 0.5.6."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmcache_operator.core.counts import L2Stores, RouterSample
from llmcache_operator.core.exposition import maybe, series, total
from llmcache_operator.core.values import CacheSample, EngineSample

if TYPE_CHECKING:
    from llmcache_operator.core.exposition import Found

PROMPT_TOKENS = "vllm:prompt_tokens_by_source_total"
STARTED = "vllm:prompt_tokens_by_source_created"
SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
WAITING_WHY = "vllm:num_requests_waiting_by_reason"
FIRST_TOKENS = "vllm:time_to_first_token_seconds_count"
UNTIL_FIRST = "vllm:time_to_first_token_seconds_sum"
PREFILLED = "vllm:request_prefill_kv_computed_tokens_sum"
PREFILLING = "vllm:request_prefill_time_seconds_sum"
LOADED = "vllm:llmcache_load_tokens_total"
LOADING = "vllm:llmcache_load_seconds_total"
"""The last two are of `llmcache_runtime/connector.py`."""
PROMPTS = "vllm:request_prompt_tokens_count"
PROMPT_LENGTHS = "vllm:request_prompt_tokens_bucket"
LOOKUPS_BEGUN = "vllm:lmcache_mp_lookup_duration_seconds_count"
ALL_TOKENS = "vllm:prompt_tokens_total"
OWN_FOUND = "vllm:prefix_cache_hits_total"
SERVER_FOUND = "vllm:external_prefix_cache_hits_total"
CACHE_CONFIG = "vllm:cache_config_info"
ENGINE_SERIES = (
    PROMPT_TOKENS, STARTED, RUNNING, WAITING, WAITING_WHY, FIRST_TOKENS, UNTIL_FIRST, PROMPTS, PROMPT_LENGTHS,
    LOOKUPS_BEGUN, ALL_TOKENS, OWN_FOUND, SERVER_FOUND, CACHE_CONFIG, PREFILLED, PREFILLING, LOADED, LOADING,
)  # fmt: skip

PROCESS_STARTED = "process_start_time_seconds"
USAGE_RATIO = "lmcache_mp_l1_usage_ratio"
USED_BYTES = "lmcache_mp_l1_memory_usage_bytes"
EVICTED = "lmcache_mp_l1_evicted_chunks_total"
WRITTEN = "lmcache_mp_l1_write_chunks_total"
LOOKUPS = "lmcache_mp_lookups_requests_total"
EARLY_EXITS = "lmcache_mp_lookup_early_exit_requests_total"
ASKED = "lmcache_mp_lookup_requested_tokens_total"
FOUND = "lmcache_mp_lookup_hit_tokens_total"
LOST_EVENTS = "lmcache_mp_event_bus_dropped_events_total"
NOT_LOADED = "lmcache_mp_l2_prefetch_failure_chunks_total"
TO_STORE = "lmcache_mp_l2_store_submitted_objects_chunks_total"
STORED = "lmcache_mp_l2_store_completed_objects_chunks_total"
STORES_ENDED = "lmcache_mp_l2_store_completed_requests_total"
STORES_THAT_WROTE = "lmcache_mp_l2_store_throughput_GB_per_second_count"
CACHE_SERIES = (
    PROCESS_STARTED, USAGE_RATIO, USED_BYTES, EVICTED, WRITTEN, LOOKUPS, EARLY_EXITS, ASKED, FOUND, LOST_EVENTS,
    NOT_LOADED, TO_STORE, STORED, STORES_ENDED, STORES_THAT_WROTE,
)  # fmt: skip
NOT_REGISTERED = "no_gpu_context"
"""Why a look-up ends early whose engine is not registered, on a CPU too (lmcache, multiprocess/modules/lookup.py)."""
NO_ROOM = "l1_oom"
"""Why a chunk stays in the L2: no memory to load it into (lmcache, mp_observability/…/l2_failures.py)."""

ADAPTERS = {"FSL2Adapter": "fs", "S3L2Adapter": "s3"}
"""Types of L2 adapters in /status, and their names in metrics (lmcache, distributed/l2_adapters/*.py)."""

PICKS = "llmcache_router_picks_total"
EXPECTED = "llmcache_router_expected_prompt_tokens_total"

DEFAULT_CHUNK = 256


def engine_sample(  # noqa: PLR0913 - what one scrape is made of
    pod: str, pod_uid: str, at: float, metrics: str, models: str | None = None, *, chunk: int = DEFAULT_CHUNK
) -> EngineSample:
    """Return what an engine's /metrics says, and with /v1/models the path of its model; `chunk` is LMCache's.

    Counters are summed over data-parallel ranks. Raises ValueError when a counter is missing or no number.
    """
    found = series(metrics, ENGINE_SERIES)
    starts = [value for _, value in found[STARTED]]
    config = found[CACHE_CONFIG][0][0] if found[CACHE_CONFIG] else {}
    return EngineSample(
        pod=pod,
        pod_uid=pod_uid,
        at=at,
        computed=total(found, PROMPT_TOKENS, source="local_compute"),
        engine_hits=total(found, PROMPT_TOKENS, source="local_cache_hit"),
        server_hits=total(found, PROMPT_TOKENS, source="external_kv_transfer"),
        running=total(found, RUNNING),
        waiting=total(found, WAITING),
        started_at=min(starts) if starts else None,
        model_path=_model_path(models) if models is not None else None,
        served=maybe(found, FIRST_TOKENS) or 0,
        busy=_seconds(found, UNTIL_FIRST),
        ended=maybe(found, PROMPTS) or 0,
        short=_under(found, chunk),
        lookups=maybe(found, LOOKUPS_BEGUN),
        prompt_tokens=maybe(found, ALL_TOKENS) or 0,
        own_found=maybe(found, OWN_FOUND) or 0,
        server_found=maybe(found, SERVER_FOUND) or 0,
        prefilled=maybe(found, PREFILLED) or 0,
        prefilling=_seconds(found, PREFILLING),
        loaded=maybe(found, LOADED) or 0,
        loading=_seconds(found, LOADING),
        queued=maybe(found, WAITING_WHY, reason="capacity") or 0,
        block_size=config.get("block_size"),
        cache_dtype=config.get("cache_dtype"),
    )


def _seconds(found: Found, name: str) -> float:
    return sum(value for _, value in found[name])


def _under(found: Found, chunk: int) -> int:
    """Return how many prompts were certainly shorter than a chunk: those of buckets that end below it."""
    by_bound: dict[float, float] = {}
    for labels, value in found[PROMPT_LENGTHS]:
        bound = float(labels.get("le", "nan"))
        by_bound[bound] = by_bound.get(bound, 0) + value
    return int(by_bound.get(max((bound for bound in by_bound if bound < chunk), default=0), 0))


def cache_sample(at: float, metrics: str, status: str | None = None) -> CacheSample:
    """Return what an LMCache server's /metrics says, and its /status where that can be read.

    Raises ValueError when a series that every version has is missing or no number.
    """
    found = series(metrics, CACHE_SERIES)
    ratios = [value for _, value in found[USAGE_RATIO]]
    if not ratios:
        raise ValueError(f"the metrics hold no {USAGE_RATIO}: is this an LMCache server (multi-process mode)?")
    starts = [value for _, value in found[PROCESS_STARTED]]
    told = _object(status)
    return CacheSample(
        at=at,
        usage_ratio=max(ratios),
        used_bytes=total(found, USED_BYTES),
        evicted_chunks=maybe(found, EVICTED) or 0,
        started_at=starts[0] if starts else None,
        written_chunks=maybe(found, WRITTEN) or 0,
        lookups=maybe(found, LOOKUPS) or 0,
        unknown_lookups=maybe(found, EARLY_EXITS, reason=NOT_REGISTERED) or 0,
        asked=maybe(found, ASKED) or 0,
        found=maybe(found, FOUND) or 0,
        lost_events=maybe(found, LOST_EVENTS) or 0,
        no_room=maybe(found, NOT_LOADED, reason=NO_ROOM) or 0,
        l2=_l2_stores(found, told),
        objects=_objects(told),
        chunk_size=_number(told.get("chunk_size")),
        registered=_registered(told),
    )


def _l2_stores(found: Found, status: dict[str, Any]) -> L2Stores:
    return L2Stores(
        submitted=maybe(found, TO_STORE) or 0,
        stored=maybe(found, STORED) or 0,
        ended=_by_tier(found, STORES_ENDED),
        wrote=_by_tier(found, STORES_THAT_WROTE),
        given_up=_given_up(status),
    )


def _by_tier(found: Found, name: str) -> dict[str, int]:
    return {tier: told for tier in ADAPTERS.values() if (told := maybe(found, name, l2_name=tier)) is not None}


def _given_up(status: dict[str, Any]) -> frozenset[str]:
    """Return the tiers whose adapters call themselves unhealthy: they try nothing more."""
    try:
        adapters = status["storage_manager"]["l2_adapters"]
        ill = {told["type"] for told in adapters if told.get("is_healthy") is False}
    except (KeyError, TypeError, AttributeError):
        return frozenset()
    return frozenset(name for kind, name in ADAPTERS.items() if kind in ill)


def router_sample(pod: str, pod_uid: str, at: float, metrics: str) -> RouterSample:
    """Return what a router's /metrics says. Raises ValueError when they can't be read."""
    found = series(metrics, (PICKS, EXPECTED))
    tiers = {tier: maybe(found, EXPECTED, tier=tier) or 0 for tier in ("engine", "shared", "compute")}
    return RouterSample(pod, pod_uid, at, maybe(found, PICKS) or 0, **tiers)


def version(text: str) -> str | None:
    """Return the version in an answer of vLLM's /version or LMCache's /lmc_version; None where there is none."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    told = answer.get("version") if isinstance(answer, dict) else answer
    return told if isinstance(told, str) and 0 < len(told) <= 64 else None


def _model_path(models: str) -> str | None:
    """Return `root` of the base model in vLLM's answer to /v1/models: the path that the engine was started with."""
    try:
        cards = json.loads(models)["data"]
        roots = [str(card["root"]) for card in cards if not card.get("parent")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"/v1/models can't be read: {error!r}") from error
    return roots[0] if roots else None


def _object(text: str | None) -> dict[str, Any]:
    """Return a JSON object, empty where there is none: /status adds to what is known, and its lack breaks nothing."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _registered(status: dict[str, Any]) -> float | None:
    """Return how many engines are registered; each worker of a tensor-parallel one counts as its part.

    Source: `report_status` in lmcache 0.5.6, multiprocess/modules/{engine,lmcache}_driven_transfer.py.
    """
    tables = [status[name] for name in ("non_cuda_context_meta", "cache_context_meta") if name in status]
    if not tables or not all(isinstance(table, dict) for table in tables):
        return None
    workers = [worker for table in tables for worker in table.values() if isinstance(worker, dict)]
    return sum(1 / max(1, _number(worker.get("world_size")) or 1) for worker in workers)


def _objects(status: dict[str, Any]) -> int | None:
    """Return how many objects L1 holds (lmcache 0.5.6, distributed/l1_manager.py)."""
    try:
        managers = status["storage_manager"]["l1_managers"].values()
        return sum(int(manager["total_object_count"]) for manager in managers)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
