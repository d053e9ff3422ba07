"""The operator's own metrics, in a registry of their own. Names are public: dashboards and rules hold them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Counters, gauges and histograms of one operator process. Times in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "llmcache_operator_reconciles",
            "Reconciles by result: done, retry (the API server was busy or away), failed (a bug).",
            ["result"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "llmcache_operator_reconcile_seconds",
            "Time of one reconcile, waits for the API server included.",
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "llmcache_operator_queue_depth", "Services that wait for a worker.", registry=self.registry
        )
        self.applies = Counter(
            "llmcache_operator_applies",
            "Server-side applies of children by kind and result: changed, unchanged, refused, failed.",
            ["kind", "result"],
            registry=self.registry,
        )
        self.status_writes = Counter(
            "llmcache_operator_status_writes", "Writes of a service's status.", registry=self.registry
        )
        self.scrapes = Counter(
            "llmcache_operator_scrapes",
            "Scrapes of engine and cache server pods by component and result: ok, failed.",
            ["component", "result"],
            registry=self.registry,
        )
        self.scraped_at = Gauge(
            "llmcache_operator_last_scrape_timestamp_seconds",
            "When the latest round of scrapes ended, in Unix time.",
            registry=self.registry,
        )
        self.leading = Gauge(
            "llmcache_operator_leading", "1 while this process holds the Lease.", registry=self.registry
        )

    def render(self) -> bytes:
        """All values in the Prometheus text format."""
        return generate_latest(self.registry)
