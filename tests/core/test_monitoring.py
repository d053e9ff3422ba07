"""PodMonitors: only where the cluster knows them, and of the ports that really serve metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llmcache_operator.core.children.monitoring import POD_MONITOR
from llmcache_operator.core.target import Component
from tests.core.samples import KINDS, SETTINGS, find, main_container, planned

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json, Settings

THERE = replace(SETTINGS, optional_kinds=frozenset({POD_MONITOR}))


def monitors(settings: Settings) -> list[Json]:
    return [obj for obj in planned(settings) if obj["kind"] == "PodMonitor"]


def test_a_cluster_without_the_kind_gets_none() -> None:
    assert monitors(SETTINGS) == []


def test_whoever_wants_none_gets_none() -> None:
    assert monitors(replace(THERE, pod_monitors=False)) == []


@pytest.mark.parametrize("component", KINDS)
def test_a_monitor_selects_the_pods_of_its_component_and_names_one_of_their_ports(component: Component) -> None:
    made = planned(THERE)
    spec = find(made, "PodMonitor", component)["spec"]
    pods = find(made, KINDS[component], component)["spec"]["template"]

    assert spec["selector"]["matchLabels"].items() <= pods["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in main_container(made, component)["ports"]}
    [endpoint] = spec["podMetricsEndpoints"]
    assert ports[endpoint["port"]] == {"engine": 8000, "cache-server": 8080, "router": 9090}[component.value]


def test_the_network_policies_let_the_scraper_reach_every_monitored_port() -> None:
    made = planned(replace(THERE, scraper_namespace="monitoring"))
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}

    for component in KINDS:
        [endpoint] = find(made, "PodMonitor", component)["spec"]["podMetricsEndpoints"]
        ports = {port["name"]: port["containerPort"] for port in main_container(made, component)["ports"]}
        rules = find(made, "NetworkPolicy", component)["spec"]["ingress"]
        open_to_it = [rule["ports"][0]["port"] for rule in rules if scraper in rule.get("from", [])]
        assert ports[endpoint["port"]] in open_to_it


def test_a_cache_server_beside_each_engine_is_scraped_in_the_engines_pod() -> None:
    made = planned(THERE, cache={"topology": "PerEngine"})
    [engines, routers] = [obj for obj in made if obj["kind"] == "PodMonitor"]
    [server] = [
        port
        for container in find(made, "Deployment", Component.ENGINE)["spec"]["template"]["spec"]["initContainers"]
        for port in container.get("ports", ())
    ]

    assert routers["metadata"]["name"] == "chat-router"
    engine, beside = engines["spec"]["podMetricsEndpoints"]
    assert (beside["port"], server["containerPort"]) == (server["name"], 8080)
    assert [rule["replacement"] for rule in engine["relabelings"][1:]] == ["engine"]
    assert [rule["replacement"] for rule in beside["relabelings"][1:]] == ["cache-server"]


def test_labels_for_a_prometheus_that_selects_by_them_never_replace_our_own() -> None:
    labels = (("release", "stack"), ("app.kubernetes.io/managed-by", "helm"))
    [first, *_] = monitors(replace(THERE, pod_monitor_labels=labels))

    assert first["metadata"]["labels"]["release"] == "stack"
    assert first["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "llmcache-operator"
