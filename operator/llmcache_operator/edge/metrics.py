"""The operator's own metrics, in a registry of their own. Names are public: dashboards and rules hold them.

operator/docs/metrics.md has a line for each. Metrics of the services themselves: `service_metrics`.
"""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from llmcache_operator.edge.service_metrics import ServiceStates


class Metrics:
    """Everything that one operator process tells Prometheus. Times in seconds."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.services = ServiceStates(registry)
        Info("llmcache_operator_build", "Which version this is.", registry=registry).info(
            {"version": version("llmcache")}
        )

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"llmcache_operator_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"llmcache_operator_{name}", text, registry=registry)

        def histogram(name: str, text: str, *bounds: float) -> Histogram:
            return Histogram(f"llmcache_operator_{name}", text, buckets=bounds, registry=registry)

        self.reconciles = counter(
            "reconciles",
            "Reconciles by result: done, retry (the API server was busy or away), failed (a bug).",
            "result",
        )
        self.reconcile_seconds = histogram(
            "reconcile_duration_seconds",
            "Time of one reconcile, waits for the API server included.",
            *(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
        )
        self.queue_depth = gauge("queue_depth", "Services that wait for a worker.")
        self.queue_seconds = histogram(
            "queue_wait_seconds", "Time that a service waited for a worker.", *(0.001, 0.01, 0.1, 0.5, 2, 10, 60)
        )
        self.applies = counter(
            "applies",
            "Server-side applies of children by kind and result: changed, unchanged, refused, failed.",
            *("kind", "result"),
        )
        self.deletes = counter("deletes", "Children deleted because nothing wants them any more, by kind.", "kind")
        self.status_writes = counter("status_writes", "Writes of a service's status.")
        self.events = counter("events", "Events told about services, by type: Normal, Warning.", "type")
        self.scrapes = counter(
            "scrapes",
            "Scrapes of engine and cache server pods by component and result: ok, failed.",
            *("component", "result"),
        )
        self.scraped_at = gauge(
            "last_scrape_timestamp_seconds", "When the latest round of scrapes ended, in Unix time."
        )
        self.self_tests = counter(
            "self_tests", "Self-tests by result: Verified, NothingShared, WrongKV, ProbeFailed, Saturated.", "result"
        )
        self.leading = gauge("leading", "1 while this process holds the Lease.")

    def render(self) -> bytes:
        """All values in the Prometheus text format."""
        return generate_latest(self.registry)
