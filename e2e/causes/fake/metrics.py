"""The metrics of a vLLM engine, kept with the library and under the names and labels that vLLM 0.32 uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Collection

SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
SECONDS = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
LOOK_UP = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)


class EngineMetrics:
    """All families of one run of an engine: they begin at nothing with it."""

    def __init__(self, model: str, block_tokens: int, cache_tokens: int, cache_dtype: str) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"engine": "0", "model_name": model}
        self.queries = self._counter("prefix_cache_queries")
        self.hits = self._counter("prefix_cache_hits")
        self.external_queries = self._counter("external_prefix_cache_queries")
        self.external_hits = self._counter("external_prefix_cache_hits")
        self.prompt_tokens = self._counter("prompt_tokens")
        self.cached = self._counter("prompt_tokens_cached")
        self.generated = self._counter("generation_tokens")
        self.by_source = self._by("prompt_tokens_by_source", "source", SOURCES)
        self.finished = self._by("request_success", "finished_reason", ("stop", "length", "abort", "error"))
        self.running = self._gauge("num_requests_running")
        self.waiting = self._gauge("num_requests_waiting")
        fetches = Gauge("vllm:num_requests_kv_fetch_by_stage", "KV.", [*self._labels, "stage"], registry=self.registry)
        self.fetching = fetches.labels(**self._labels, stage="in_progress")
        self.usage = self._gauge("kv_cache_usage_perc")
        self.request_tokens = self._histogram("request_prompt_tokens", TOKENS)
        self.computed_tokens = self._histogram("request_prefill_kv_computed_tokens", TOKENS)
        self.first_token = self._histogram("time_to_first_token_seconds", FIRST_TOKEN)
        self.prefill = self._histogram("request_prefill_time_seconds", SECONDS)
        self.load_seconds = self._counter("llmcache_load_seconds")
        self.load_tokens = self._counter("llmcache_load_tokens")
        self.look_ups = self._histogram("lmcache_mp_lookup_duration_seconds", LOOK_UP)
        config = {
            "engine": "0",
            "block_size": str(block_tokens),
            "cache_dtype": cache_dtype,
            "enable_prefix_caching": "True",
            "kv_cache_size_tokens": str(cache_tokens),
            "num_gpu_blocks": str(cache_tokens // block_tokens),
        }
        info = Gauge("vllm:cache_config_info", "Config.", list(config), registry=self.registry)
        info.labels(**config).set(1)

    def render(self, frozen: Collection[str] = (), then: str = "") -> str:
        """Render /metrics; families that start with a name in `frozen` are shown as they are in the text `then`."""
        prefixes = tuple(frozen)
        now = generate_latest(self.registry).decode().splitlines()
        if not prefixes:
            return "\n".join(now) + "\n"
        held = [line for line in then.splitlines() if line.startswith(prefixes)]
        return "\n".join([*(line for line in now if not line.startswith(prefixes)), *held]) + "\n"

    def _counter(self, name: str) -> Counter:
        family = Counter(f"vllm:{name}", name, list(self._labels), registry=self.registry)
        return family.labels(**self._labels)

    def _by(self, name: str, label: str, values: tuple[str, ...]) -> dict[str, Counter]:
        family = Counter(f"vllm:{name}", name, [*self._labels, label], registry=self.registry)
        return {value: family.labels(**self._labels, **{label: value}) for value in values}

    def _gauge(self, name: str) -> Gauge:
        return Gauge(f"vllm:{name}", name, list(self._labels), registry=self.registry).labels(**self._labels)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        family = Histogram(f"vllm:{name}", name, list(self._labels), buckets=buckets, registry=self.registry)
        return family.labels(**self._labels)
