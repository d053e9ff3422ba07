"""The router's own metrics, for Prometheus. Labels are bounded: known paths, known reasons, engines that are there."""

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from llmcache_runtime.policy import Pick, TierTokens
from llmcache_runtime.router.counters import Counters
from llmcache_runtime.router.histogram import Buckets, FastHistogram

_TTFT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_GAP = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 10)


class Latencies(NamedTuple):
    """Where the times of one stream are counted."""

    first: Buckets
    gap: Buckets


class Metrics:
    """All metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counters(name: str, text: str, *labels: str) -> Counters:
            return Counters(f"llmcache_router_{name}", text, labels, registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"llmcache_router_{name}", text, labels, registry=registry)

        self.requests = counters("requests", "Requests answered.", "path", "status")
        self.picks = counters("picks", "Engines picked, by reason.", "reason")
        self.tokens = counters(
            "expected_prompt_tokens",
            "Prompt tokens sent, by where they were expected to come from (engine, shared, compute).",
            "tier",
        )
        self.engine_requests = counters("engine_requests", "Attempts sent to an engine.", "engine")
        self.retries = counters("retries", "Attempts repeated on another engine.", "cause")
        self.ejections = counters("ejections", "Times an engine was taken out.", "engine")
        self.cut = counters("cut_responses", "Responses whose engine was lost in the middle.")
        self.gone = counters("client_disconnects", "Clients that left before their answer.")
        self.running = gauge("engine_running", "Requests running on an engine.", "engine")
        self.available = gauge("engine_available", "1 if the engine takes new requests.", "engine")
        self.queue = gauge("queue", "Requests that wait for an engine with room.")
        self.connections = gauge("client_connections", "Open client connections.")
        self.ttft = FastHistogram(
            "llmcache_router_time_to_first_token_seconds",
            "From the whole request read to the first piece of the body passed on, streams only, by where most of the "
            "prompt was expected to come from (engine, shared, compute).",
            _TTFT,
            ("engine", "expected"),
            registry,
        )
        gaps = "Between two pieces of a stream passed on."
        self.gap = FastHistogram("llmcache_router_inter_token_seconds", gaps, _GAP, ("engine",), registry)

    def latencies(self, engine: str, pick: Pick) -> Latencies | None:
        """Say where the times of a request to an engine are counted; None if it doesn't stream."""
        if not pick.key.streams:
            return None
        return Latencies(self.ttft.of(engine, source_of(pick.tiers)), self.gap.of(engine))

    def forget_engine(self, engine: str) -> None:
        """Drop the series of an engine that has left."""
        for counters in (self.engine_requests, self.ejections):
            counters.forget((engine,))
        for histogram in (self.ttft, self.gap):
            histogram.forget(engine)
        for gauge in (self.running, self.available):
            gauge.remove_by_labels({"engine": engine})

    def render(self) -> bytes:
        """Give the text exposition."""
        return generate_latest(self.registry)


def source_of(tiers: TierTokens) -> str:
    """Name the tier that most of a prompt is expected from; computing wins a tie."""
    return max(reversed(tiers._fields), key=lambda tier: int(getattr(tiers, tier)))
