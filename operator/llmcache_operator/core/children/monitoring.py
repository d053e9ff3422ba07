"""What tells a Prometheus of the prometheus-operator to scrape the pods of a service.

Source: https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitor
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import l2
from llmcache_operator.core.children.per_engine import HTTP_PORT_NAME
from llmcache_operator.core.target import SERVICE_LABEL, Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

POD_MONITOR = ("monitoring.coreos.com/v1", "PodMonitor")
# Names of the ports that serve /metrics: see the builders of the pods.
_PORTS = {Component.ENGINE: "http", Component.CACHE_SERVER: "http", Component.ROUTER: "private"}


def build(target: Target) -> tuple[Json, ...]:
    """Return one PodMonitor for each kind of pods, or none where the cluster has no such kind or nobody wants them."""
    settings = target.settings
    if not settings.pod_monitors or POD_MONITOR not in settings.optional_kinds:
        return ()
    return tuple(_monitor(target, component) for component in target.components if component in _PORTS)


def _monitor(target: Target, component: Component) -> Json:
    metadata = target.metadata(component)
    metadata["labels"] = dict(target.settings.pod_monitor_labels) | metadata["labels"]
    endpoints = [_endpoint(component, _PORTS[component])]
    beside = Component.CACHE_SERVER not in target.components
    if component is Component.ENGINE and beside:
        endpoints.append(_endpoint(Component.CACHE_SERVER, HTTP_PORT_NAME))
    if component is (Component.ENGINE if beside else Component.CACHE_SERVER) and l2.guarded(target):
        endpoints.append(_endpoint(Component.CACHE_SERVER, l2.GUARD_HTTP_PORT_NAME))
    return {
        "apiVersion": POD_MONITOR[0],
        "kind": POD_MONITOR[1],
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": target.own_selector(component)}, "podMetricsEndpoints": endpoints},
    }


def _endpoint(component: Component, port: str) -> Json:
    """Return a port to scrape, with the labels that rules and dashboard group by beside `namespace` and `pod`."""
    service = f"__meta_kubernetes_pod_label_{SERVICE_LABEL.translate(str.maketrans('./-', '___'))}"
    return {
        "port": port,
        "path": "/metrics",
        "relabelings": [
            {"action": "replace", "sourceLabels": [service], "targetLabel": "llmcs"},
            {"action": "replace", "replacement": component.value, "targetLabel": "component"},
        ],
    }
