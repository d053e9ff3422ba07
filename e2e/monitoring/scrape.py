"""What a Prometheus scrapes for a PodMonitor, as the prometheus-operator would write it.

Source: prometheus-operator, pkg/prometheus/promcfg.go, generatePodMonitorConfig: targets are the running pods that have
the labels and a container port of that name; they get `namespace`, `pod`, `container`, `endpoint` and `job`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from e2e.kube import Json

META = "__meta_kubernetes_pod"


def config(monitors: Iterable[Json], kubeconfig: Path, rules: Path, *, every: int) -> dict[str, Any]:
    """Return a configuration of Prometheus that scrapes every `every` seconds what these PodMonitors name."""
    return {
        "global": {"scrape_interval": f"{every}s", "evaluation_interval": f"{every}s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            _job(monitor["metadata"], monitor["spec"]["selector"]["matchLabels"], endpoint, kubeconfig)
            for monitor in monitors
            for endpoint in monitor["spec"]["podMetricsEndpoints"]
        ],
    }


def _job(meta: Json, labels: dict[str, str], endpoint: Json, kubeconfig: Path) -> dict[str, Any]:
    name = f"{meta['namespace']}/{meta['name']}"
    keep = [_keep(f"{META}_label_{_label(label)}", value) for label, value in labels.items()]
    copied = {"namespace": "__meta_kubernetes_namespace", "pod": f"{META}_name", "container": f"{META}_container_name"}
    return {
        "job_name": f"podMonitor/{name}",
        "honor_labels": endpoint.get("honorLabels", False),
        "metrics_path": endpoint["path"],
        "kubernetes_sd_configs": [
            {"role": "pod", "kubeconfig_file": str(kubeconfig), "namespaces": {"names": [meta["namespace"]]}}
        ],
        "relabel_configs": [
            {"action": "drop", "source_labels": [f"{META}_phase"], "regex": "(Failed|Succeeded)"},
            *keep,
            _keep(f"{META}_container_port_name", endpoint["port"]),
            *({"source_labels": [source], "target_label": target} for target, source in copied.items()),
            {"target_label": "job", "replacement": name},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *(_relabeling(rule) for rule in endpoint.get("relabelings", ())),
        ],
    }


def _keep(source: str, value: str) -> dict[str, Any]:
    return {"action": "keep", "source_labels": [source], "regex": re.escape(value)}


def _label(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _relabeling(rule: Json) -> dict[str, Any]:
    names = {"action": "action", "sourceLabels": "source_labels", "targetLabel": "target_label"}
    return {names.get(name, name): value for name, value in rule.items()}
