"""What went through the guard, for /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from llmcache_runtime.l2guard.health import Health, State


class Counts:
    """Counters by operation and result."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self.registry = CollectorRegistry()
        self.operations = Counter(
            "llmcache_l2_operations", "Commands of the LMCache server", ["operation", "result"], registry=self.registry
        )
        self.bytes = Counter("llmcache_l2_bytes", "Bytes of values", ["direction"], registry=self.registry)
        self.connections = Gauge("llmcache_l2_connections", "Connections of the LMCache server", registry=self.registry)
        self._state = Gauge("llmcache_l2_state", "1 for what the store is like now", ["state"], registry=self.registry)
        self._latency = Gauge(
            "llmcache_l2_latency_seconds", "Time of the store's last answer to a ping", registry=self.registry
        )

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        view = self._health.view
        for state in State:
            self._state.labels(state.value).set(state is view.state)
        self._latency.set(view.latency)
        return generate_latest(self.registry)
