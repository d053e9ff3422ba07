"""Metrics of every living service: what its status says, for rules, dashboards and a memory of it.

They come from the status that the last reconcile came to, which may be up to a minute newer than the one that was
written. A value that can't be known has no sample. Labels as those of kube-state-metrics: `namespace` and `llmcs` name
the service, so whoever scrapes has to honour them (`honorLabels`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

    from llmcache_operator.core.values import Json, ServiceKey

_SERVICE = ("namespace", "llmcs")
_STATUSES = ("True", "False", "Unknown")
_GAUGES = {
    "engines_desired": "Engines wanted.",
    "engines_ready": "Engines that answer.",
    "reused_tokens": "Prompt tokens not computed, over the lives of the engines that ran in the window.",
    "saved_engine_seconds": "Estimate of the engine time that the cache saved, over the same lives.",
    "cache_used_ratio": "Part of the LMCache server's memory in use, 0 to 1.",
}


class ServiceStates(Collector):
    """One set of gauges a service, as long as it lives."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._by_key: dict[ServiceKey, Json] = {}
        registry.register(self)

    def show(self, key: ServiceKey, status: Json) -> None:
        """Tell what a service's status is now."""
        self._by_key[key] = status

    def forget(self, key: ServiceKey) -> None:
        """Drop the gauges of a service that is gone."""
        self._by_key.pop(key, None)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the samples."""
        yield from self._plain()
        yield self._hits()
        yield from self._conditions()

    def _plain(self) -> Iterator[GaugeMetricFamily]:
        families = {name: _family(name, text) for name, text in _GAUGES.items()}
        for key, status in self._by_key.items():
            for name, value in _values(status).items():
                if value is not None:
                    families[name].add_metric(key, value)
        yield from families.values()

    def _hits(self) -> GaugeMetricFamily:
        text = "Part of the prompt tokens in the window that came from a tier (engine, server), 0 to 1."
        family = _family("hit_ratio", text, "tier")
        for key, status in self._by_key.items():
            for tier, percent in status.get("cache", {}).get("tiers", {}).items():
                family.add_metric([*key, tier], percent / 100)
        return family

    def _conditions(self) -> Iterator[GaugeMetricFamily]:
        states = _family("condition", "1 for what a condition's status is, 0 for what it isn't.", "type", "status")
        reasons = _family("condition_reason", "1 for the reason that a condition gives.", "type", "reason")
        for key, status in self._by_key.items():
            for condition in status["conditions"]:
                for candidate in _STATUSES:
                    states.add_metric([*key, condition["type"], candidate], condition["status"] == candidate)
                reasons.add_metric([*key, condition["type"], condition["reason"]], 1)
        yield from (states, reasons)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"llmcache_service_{name}", text, labels=[*_SERVICE, *labels])


def _values(status: Json) -> dict[str, float | None]:
    """Return the gauges that have no label of their own; None for what the status doesn't know."""
    engines, cache = status.get("engines", {}), status.get("cache", {})
    used = cache.get("usedPercent")
    return {
        "engines_desired": engines.get("desired"),
        "engines_ready": engines.get("ready"),
        "reused_tokens": cache.get("tokensReused"),
        "saved_engine_seconds": cache.get("saved", {}).get("engineSeconds"),
        "cache_used_ratio": None if used is None else used / 100,
    }
