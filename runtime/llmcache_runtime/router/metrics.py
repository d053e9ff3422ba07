"""The router's own metrics, for Prometheus. Labels are bounded: known paths, known reasons, engines that are there."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_TTFT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_GAP = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 10)


class Metrics:
    """All metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("llmcache_router_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.picks = Counter("llmcache_router_picks", "Engines picked, by reason.", ["reason"], registry=registry)
        self.tokens = Counter(
            "llmcache_router_expected_prompt_tokens",
            "Prompt tokens sent, by where they were expected to come from (engine, shared, compute).",
            ["tier"],
            registry=registry,
        )
        self.engine_requests = Counter(
            "llmcache_router_engine_requests", "Attempts sent to an engine.", ["engine"], registry=registry
        )
        self.running = Gauge(
            "llmcache_router_engine_running", "Requests running on an engine.", ["engine"], registry=registry
        )
        self.available = Gauge(
            "llmcache_router_engine_available", "1 if the engine takes new requests.", ["engine"], registry=registry
        )
        self.queue = Gauge("llmcache_router_queue", "Requests that wait for an engine with room.", registry=registry)
        self.retries = Counter(
            "llmcache_router_retries", "Attempts repeated on another engine.", ["cause"], registry=registry
        )
        self.ejections = Counter(
            "llmcache_router_ejections", "Times an engine was taken out.", ["engine"], registry=registry
        )
        self.cut = Counter(
            "llmcache_router_cut_responses", "Responses whose engine was lost in the middle.", registry=registry
        )
        self.gone = Counter(
            "llmcache_router_client_disconnects", "Clients that left before their answer.", registry=registry
        )
        self.ttft = Histogram(
            "llmcache_router_time_to_first_token_seconds",
            "From the whole request read to the first piece of the body passed on, streams only.",
            buckets=_TTFT,
            registry=registry,
        )
        self.gap = Histogram(
            "llmcache_router_inter_token_seconds",
            "Between two pieces of a stream passed on.",
            buckets=_GAP,
            registry=registry,
        )
        self.connections = Gauge("llmcache_router_client_connections", "Open client connections.", registry=registry)

    def forget_engine(self, engine: str) -> None:
        """Drop the series of an engine that has left."""
        for metric in (self.engine_requests, self.running, self.available, self.ejections):
            metric.remove_by_labels({"engine": engine})

    def render(self) -> bytes:
        """Give the text exposition."""
        return generate_latest(self.registry)
