"""What tells a Prometheus of the prometheus-operator to scrape the pods of a service.

Source: https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitor
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import per_engine
from llmcache_operator.core.target import COMPONENT_LABEL, SERVICE_LABEL, Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

POD_MONITOR = ("monitoring.coreos.com/v1", "PodMonitor")
# Names of the ports that serve /metrics: see the builders of the pods.
_PORTS = {Component.ENGINE: ["http"], Component.CACHE_SERVER: ["http"], Component.ROUTER: ["private"]}
# What rules and dashboard group by, beside the `namespace` and `pod` that the prometheus-operator adds by itself.
_LABELS = {SERVICE_LABEL: "llmcs", COMPONENT_LABEL: "component"}


def build(target: Target) -> tuple[Json, ...]:
    """Return one PodMonitor a component, or none where the cluster has no such kind or nobody wants them."""
    settings = target.settings
    if not settings.pod_monitors or POD_MONITOR not in settings.optional_kinds:
        return ()
    return tuple(_monitor(target, component) for component in target.components)


def _monitor(target: Target, component: Component) -> Json:
    metadata = target.metadata(component)
    ports = _PORTS[component]
    if component is Component.ENGINE and Component.CACHE_SERVER not in target.components:
        ports = [*ports, per_engine.HTTP_PORT_NAME]
    metadata["labels"] = dict(target.settings.pod_monitor_labels) | metadata["labels"]
    return {
        "apiVersion": POD_MONITOR[0],
        "kind": POD_MONITOR[1],
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": target.selector(component)},
            "podMetricsEndpoints": [
                {
                    "port": port,
                    "path": "/metrics",
                    "relabelings": [_relabeled(label, name) for label, name in _LABELS.items()],
                }
                for port in ports
            ],
        },
    }


def _relabeled(pod_label: str, name: str) -> Json:
    source = pod_label.translate(str.maketrans("./-", "___"))
    return {"action": "replace", "sourceLabels": [f"__meta_kubernetes_pod_label_{source}"], "targetLabel": name}
