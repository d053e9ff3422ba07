"""The PodMonitors that the operator makes lead a Prometheus to its pods, and only to the port that has metrics."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.monitoring import scrape
from llmcache_operator.core.children.monitoring import POD_MONITOR
from llmcache_operator.core.target import Component
from tests.core.samples import KEY, KINDS, SETTINGS, find, main_container, planned

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

MADE = planned(replace(SETTINGS, optional_kinds=frozenset({POD_MONITOR})))


def discovered(component: Component, port: str) -> dict[str, str]:
    """What Prometheus' service discovery knows of a pod's port."""
    pod = find(MADE, KINDS[component], component)["spec"]["template"]
    labels = {re.sub(r"\W", "_", name): value for name, value in pod["metadata"]["labels"].items()}
    return {f"{scrape.META}_label_{name}": value for name, value in labels.items()} | {
        "__meta_kubernetes_namespace": KEY.namespace,
        f"{scrape.META}_name": "a-pod",
        f"{scrape.META}_phase": "Running",
        f"{scrape.META}_container_name": component.value,
        f"{scrape.META}_container_port_name": port,
    }


def relabeled(job: Json, labels: dict[str, str]) -> dict[str, str] | None:
    """Do what Prometheus does; None for a target that is dropped."""
    for rule in job["relabel_configs"]:
        value = ";".join(labels.get(source, "") for source in rule.get("source_labels", ()))
        matches = re.fullmatch(rule.get("regex", "(.*)"), value) is not None
        action = rule.get("action", "replace")
        if (action == "keep" and not matches) or (action == "drop" and matches):
            return None
        if action == "replace":
            labels = labels | {rule["target_label"]: rule.get("replacement", value)}
    return {name: value for name, value in labels.items() if not name.startswith("__")}


@pytest.mark.parametrize("component", [one for one in Component if one is not Component.VALKEY])
def test_the_port_with_metrics_is_a_target_and_no_other_port_is(component: Component) -> None:
    monitor = find(MADE, "PodMonitor", component)
    [job] = scrape.config([monitor], Path("kubeconfig"), Path("rules"), every=5)["scrape_configs"]
    wanted = monitor["spec"]["podMetricsEndpoints"][0]["port"]
    ports = [port["name"] for port in main_container(MADE, component)["ports"]]

    targets = {port: relabeled(job, discovered(component, port)) for port in ports}

    assert [port for port, target in targets.items() if target] == [wanted]
    assert targets[wanted] == {
        "namespace": KEY.namespace,
        "pod": "a-pod",
        "container": component.value,
        "endpoint": wanted,
        "job": f"{KEY.namespace}/{monitor['metadata']['name']}",
        "llmcs": KEY.name,
        "component": component.value,
    }


def test_the_pods_of_another_component_are_no_targets() -> None:
    [job] = scrape.config([find(MADE, "PodMonitor", Component.ENGINE)], Path("k"), Path("r"), every=5)["scrape_configs"]

    assert relabeled(job, discovered(Component.CACHE_SERVER, "http")) is None
