"""Metrics text of vLLM and LMCache as samples. Metric names: vLLM 0.32, lmcache 0.5.6."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from llmcache_operator.core.values import CacheSample, EngineSample

if TYPE_CHECKING:
    from collections.abc import Iterable

PROMPT_TOKENS = "vllm:prompt_tokens_by_source_total"
STARTED = "vllm:prompt_tokens_by_source_created"
SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
USAGE_RATIO = "lmcache_mp_l1_usage_ratio"
USED_BYTES = "lmcache_mp_l1_memory_usage_bytes"
EVICTED = "lmcache_mp_l1_evicted_chunks_total"

# What a float counts exactly. More is no count, and would not fit into a status either.
LARGEST = 2**53

Series = list[tuple[dict[str, str], float]]


def engine_sample(pod: str, pod_uid: str, at: float, metrics: str, models: str | None = None) -> EngineSample:
    """Return what an engine's /metrics says, and with /v1/models the path of its model.

    Counters are summed over data-parallel ranks. Raises ValueError when a counter is missing or no number.
    """
    found = _series(metrics, (PROMPT_TOKENS, STARTED, RUNNING, WAITING))
    tokens = {source: _total(found, PROMPT_TOKENS, source=source) for source in SOURCES}
    starts = [value for _, value in found[STARTED]]
    return EngineSample(
        pod=pod,
        pod_uid=pod_uid,
        at=at,
        computed=tokens["local_compute"],
        engine_hits=tokens["local_cache_hit"],
        server_hits=tokens["external_kv_transfer"],
        running=_total(found, RUNNING),
        waiting=_total(found, WAITING),
        started_at=min(starts) if starts else None,
        model_path=_model_path(models) if models is not None else None,
    )


def cache_sample(at: float, metrics: str) -> CacheSample:
    """Return what an LMCache server's /metrics says. Raises ValueError when a series is missing or no number."""
    found = _series(metrics, (USAGE_RATIO, USED_BYTES, EVICTED))
    ratios = [value for _, value in found[USAGE_RATIO]]
    if not ratios:
        raise ValueError(f"the metrics hold no {USAGE_RATIO}: is this an LMCache server (multi-process mode)?")
    evicted = _total(found, EVICTED) if found[EVICTED] else 0
    return CacheSample(at=at, usage_ratio=max(ratios), used_bytes=_total(found, USED_BYTES), evicted_chunks=evicted)


def _series(metrics: str, names: Iterable[str]) -> dict[str, Series]:
    """Return the series of some names; parses only their lines, since most of a scrape is histograms."""
    found: dict[str, Series] = {name: [] for name in names}
    lines = [line for line in metrics.splitlines() if line.startswith(tuple(found))]
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if sample.name in found:
                    found[sample.name].append((sample.labels, _sane(sample.name, sample.value)))
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"the metrics can't be read: {error}") from error
    return found


def _sane(name: str, value: float) -> float:
    if 0 <= value <= LARGEST:
        return value
    raise ValueError(f"{name} is {value}")


def _total(found: dict[str, Series], name: str, **labels: str) -> int:
    values = [value for have, value in found[name] if labels.items() <= have.items()]
    if not values:
        wanted = f"{name}{labels}" if labels else name
        raise ValueError(f"the metrics hold no {wanted}: is this a vLLM of 0.32 or later?")
    return int(_sane(name, sum(values)))


def _model_path(models: str) -> str | None:
    """Return `root` of the base model in vLLM's answer to /v1/models: the path that the engine was started with."""
    try:
        cards = json.loads(models)["data"]
        roots = [str(card["root"]) for card in cards if not card.get("parent")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"/v1/models can't be read: {error!r}") from error
    return roots[0] if roots else None
