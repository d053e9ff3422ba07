"""The router's children: what clients see of it, and its Secrets."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmcache_operator.core.children import router
from llmcache_operator.core.children.inference_pool import INFERENCE_POOL
from llmcache_operator.core.target import Component
from llmcache_runtime.picker.cli import parse as parse_picker
from llmcache_runtime.router.cli import parse as parse_router
from tests.core.samples import SETTINGS, find, main_container, planned, target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json, Settings

EDGE: Json = {
    "auth": {"apiKeysSecretRef": {"name": "team-keys", "key": "chat"}},
    "tls": {"secretRef": {"name": "chat-tls"}},
}


def container(**spec: Any) -> Json:
    return main_container(planned(router=spec), Component.ROUTER)


def volumes(**spec: Any) -> list[Json]:
    deployment = find(planned(router=spec), "Deployment", Component.ROUTER)
    return list(deployment["spec"]["template"]["spec"].get("volumes", []))


def flags(args: list[str], name: str) -> list[str]:
    return [value for flag, value in itertools.pairwise(args) if flag == name]


def test_a_router_without_secrets_has_no_volumes_and_speaks_http() -> None:
    (port,) = find(planned(), "Service", Component.ROUTER)["spec"]["ports"]

    assert volumes() == []
    assert "volumeMounts" not in container()
    assert (port["name"], port["port"]) == ("http", 80)
    assert router.url(target()) == "http://chat-router.team.svc"


def test_tls_moves_the_service_to_443_and_the_url_to_https() -> None:
    (port,) = find(planned(router=EDGE), "Service", Component.ROUTER)["spec"]["ports"]

    assert (port["name"], port["port"], port["targetPort"]) == ("https", 443, "http")
    assert router.url(target(router=EDGE)) == "https://chat-router.team.svc"


def test_probes_stay_plain_on_the_private_port() -> None:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(**EDGE)[probe] == container()[probe]
        assert container()[probe]["httpGet"]["port"] == "private"


def test_each_file_that_the_router_is_told_of_is_mounted_from_its_secret() -> None:
    made = container(**EDGE)
    mounted = {
        f"{mount['mountPath']}/{item['path']}": (volume["secret"]["secretName"], item["key"])
        for volume in volumes(**EDGE)
        for mount in made["volumeMounts"]
        if mount["name"] == volume["name"]
        for item in volume["secret"]["items"]
    }

    [keys], [certificate], [key] = (flags(made["args"], flag) for flag in ("--api-keys", "--tls-cert", "--tls-key"))
    assert mounted == {
        keys: ("team-keys", "chat"),
        certificate: ("chat-tls", "tls.crt"),
        key: ("chat-tls", "tls.key"),
    }


def test_secrets_are_read_only_folders_that_the_kubelet_can_refresh() -> None:
    """A subPath or an environment variable would keep the value that the pod started with."""
    assert [mount.keys() for mount in container(**EDGE)["volumeMounts"]] == [{"name", "mountPath", "readOnly"}] * 2
    assert all(mount["readOnly"] for mount in container(**EDGE)["volumeMounts"])
    assert "env" not in container(**EDGE)
    assert {volume["secret"]["defaultMode"] for volume in volumes(**EDGE)} == {0o440}


def test_volumes_of_the_user_stand_beside_the_secrets() -> None:
    spec = {"volumes": [{"name": "x", "emptyDir": {}}], "volumeMounts": [{"name": "x", "mountPath": "/x"}]}
    names = [volume["name"] for volume in volumes(**EDGE, template={"spec": spec})]

    assert names == ["api-keys", "tls", "x"]
    assert [m["name"] for m in container(**EDGE, template={"spec": spec})["volumeMounts"]] == names


@pytest.mark.parametrize(("switch", "expected"), [("Enabled", True), ("Disabled", False)])
def test_debug_headers_are_a_switch(switch: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert ("--debug-headers" in container(debugHeaders=switch)["args"]) is expected


def test_the_order_of_admin_paths_changes_nothing() -> None:
    """The list is a set: an API server or a person may write it in any order."""
    first, second = container(adminPaths=["/b", "/a"]), container(adminPaths=["/a", "/b"])

    assert first == second
    assert flags(first["args"], "--admin-path") == ["/a", "/b"]


PICKER: Json = {"type": "EndpointPicker"}
THERE = replace(SETTINGS, optional_kinds=frozenset({INFERENCE_POOL}))


def test_a_picker_is_the_same_pods_with_another_program_and_port() -> None:
    made, proxy = container(**PICKER), container()
    (port,) = find(planned(router=PICKER), "Service", Component.ROUTER)["spec"]["ports"]

    assert made["command"] == ["llmcache-picker"]
    assert made["image"] == proxy["image"]
    assert flags(made["args"], "--port") == ["9002"]
    assert {p["name"]: p["containerPort"] for p in made["ports"]} == {"grpc": 9002, "private": 9090}
    assert port == {"name": "grpc", "port": 9002, "targetPort": "grpc", "protocol": "TCP", "appProtocol": "http2"}
    assert made["readinessProbe"] == proxy["readinessProbe"]


def test_the_picker_understands_what_it_is_told() -> None:
    told = container(
        **PICKER, tls=EDGE["tls"], sessionHeader="x-user", adminPaths=["/v1/load_lora_adapter"], debugHeaders="Enabled"
    )
    settings = parse_picker(told["args"])

    assert settings.service == ("team", "chat-engine")
    assert settings.tls == (Path("/llmcache/tls/tls.crt"), Path("/llmcache/tls/tls.key"))
    assert settings.forward.debug_headers
    assert settings.admin_paths == {"/v1/load_lora_adapter"}


def test_the_router_understands_what_it_is_told() -> None:
    settings = parse_router(container(**EDGE, adminPaths=["/a"], debugHeaders="Enabled")["args"])

    assert settings.tls == (Path("/llmcache/tls/tls.crt"), Path("/llmcache/tls/tls.key"))
    assert settings.api_keys == Path("/llmcache/api-keys/keys")
    assert (settings.admin_paths, settings.forward.debug_headers) == ({"/a"}, True)


def test_a_pool_is_made_for_a_picker_where_the_cluster_knows_pools() -> None:
    def pools(settings: Settings, **spec: Any) -> list[Json]:
        return [obj for obj in planned(settings, router=spec) if obj["kind"] == "InferencePool"]

    assert pools(SETTINGS, **PICKER) == pools(THERE) == []
    [pool] = pools(THERE, **PICKER)
    engines = find(planned(THERE), "Deployment", Component.ENGINE)["spec"]["template"]
    assert pool["spec"]["selector"]["matchLabels"].items() <= engines["metadata"]["labels"].items()
    port = main_container(planned(THERE), Component.ENGINE)["ports"][0]["containerPort"]
    assert pool["spec"]["targetPorts"] == [{"number": port}]
    service = find(planned(THERE, router=PICKER), "Service", Component.ROUTER)
    picker = pool["spec"]["endpointPickerRef"]
    assert picker["name"] == service["metadata"]["name"]
    assert picker["port"]["number"] == service["spec"]["ports"][0]["port"]


@pytest.mark.parametrize("namespace", [None, "gateways"])
def test_gateways_reach_engines_and_picker(namespace: str | None) -> None:
    spec = PICKER | ({"gatewayNamespace": namespace} if namespace else {})
    made = planned(router=spec)
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}

    def open_to(component: Component, port: int) -> list[list[Json] | None]:
        rules = find(made, "NetworkPolicy", component)["spec"]["ingress"]
        return [rule.get("from") for rule in rules if rule["ports"][0]["port"] == port]

    expected = [peer] if namespace else None
    assert open_to(Component.ENGINE, 8000)[-1] == expected
    assert open_to(Component.ROUTER, 9002) == [expected]
    assert all(open_to(Component.ROUTER, 9090))
