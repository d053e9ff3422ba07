"""The router's children: what clients see of it, and its Secrets."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from llmcache_operator.core.children import router
from llmcache_operator.core.target import Component
from tests.core.samples import find, main_container, planned, target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

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
