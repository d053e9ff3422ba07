from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmcache_operator.core.target import Component
from tests.core.samples import find, main_container, planned

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json


def template(obj: Json) -> Json:
    return dict(obj["spec"]["template"])


def test_users_labels_never_replace_the_operators() -> None:
    labels = {"app.kubernetes.io/component": "router", "team": "chat"}
    made = planned(engine={"template": {"metadata": {"labels": labels}}})

    found = template(find(made, "Deployment", Component.ENGINE))["metadata"]["labels"]
    assert found["app.kubernetes.io/component"] == "engine"
    assert found["team"] == "chat"


def test_single_fields_of_the_security_context_can_be_replaced() -> None:
    made = planned(engine={"template": {"spec": {"securityContext": {"runAsUser": 1000}}}})

    security = template(find(made, "Deployment", Component.ENGINE))["spec"]["securityContext"]
    assert security["runAsUser"] == 1000
    assert security["runAsNonRoot"] is True


def test_users_variables_win_over_the_operators_own() -> None:
    made = planned(engine={"env": [{"name": "HF_HUB_OFFLINE", "value": "0"}, {"name": "A", "value": "1"}]})
    env = {entry["name"]: entry["value"] for entry in main_container(made, Component.ENGINE)["env"]}

    assert env["HF_HUB_OFFLINE"] == "0"
    assert env["A"] == "1"


def test_users_arguments_come_after_the_operators() -> None:
    assert main_container(planned(engine={"args": ["--seed", "1"]}), Component.ENGINE)["args"][-2:] == ["--seed", "1"]


def option(component: Component, name: str, **spec: Any) -> str:
    args = main_container(planned(**spec), component)["args"]
    return str(args[args.index(name) + 1])


@pytest.mark.parametrize(
    ("memory", "size", "asked", "limit"),
    [
        ("4Gi", "4", "5530Mi", "9626Mi"),
        ("512Mi", "0.5", "1588Mi", "3636Mi"),
        ("930Gi", "930", "1Ti", "1954Gi"),
        ("1G", "0.9313225746", "2074Mi", "4122Mi"),
    ],
)
def test_a_cache_servers_memory_follows_from_what_it_holds(memory: str, size: str, asked: str, limit: str) -> None:
    resources = main_container(planned(cache={"memory": memory}), Component.CACHE_SERVER)["resources"]

    assert option(Component.CACHE_SERVER, "--l1-size-gb", cache={"memory": memory}) == size
    assert resources["requests"]["memory"] == asked
    assert resources["limits"] == {"memory": limit}


def test_a_server_beside_its_engine_has_nothing_on_its_way_over_a_network() -> None:
    (server,) = (
        one
        for one in find(planned(cache={"topology": "PerEngine"}), "Deployment", Component.ENGINE)["spec"]["template"][
            "spec"
        ]["initContainers"]
        if one["name"] == "cache-server"
    )

    assert server["resources"]["limits"]["memory"] == server["resources"]["requests"]["memory"]


def test_engines_see_the_model_at_a_path_that_carries_its_identity() -> None:
    engine = find(planned(), "Deployment", Component.ENGINE)
    gate = next(one for one in template(engine)["spec"]["initContainers"] if one["name"] == "gate")
    identity = template(engine)["metadata"]["annotations"]["llmcache.dev/cache-identity"]

    assert gate["args"][gate["args"].index("--identity") + 1] == identity
    assert "/llmcache/source" not in str(main_container(planned(), Component.ENGINE)["args"])


@pytest.mark.parametrize(
    ("uri", "volume", "folder"),
    [
        ("pvc://models", {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}, "/llmcache/source"),
        (
            "pvc://models/a/b",
            {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
            "/llmcache/source/a/b",
        ),
        (
            "oci://hub/model:1",
            {"image": {"reference": "hub/model:1", "pullPolicy": "IfNotPresent"}},
            "/llmcache/source",
        ),
        ("hf://org/repo", {"emptyDir": {}}, "/llmcache/source"),
    ],
)
def test_each_scheme_has_its_volume(uri: str, volume: Json, folder: str) -> None:
    pod = template(find(planned(model={"uri": uri}), "Deployment", Component.ENGINE))["spec"]
    gate = next(one for one in pod["initContainers"] if one["name"] == "gate")

    assert {"name": "model-source"} | volume in pod["volumes"]
    assert gate["args"][gate["args"].index("--source") + 1] == folder
    assert [one["name"] for one in pod["initContainers"]] == (["fetch", "gate"] if uri.startswith("hf") else ["gate"])


def test_a_gated_model_is_fetched_at_its_revision_with_the_token() -> None:
    model = {"uri": "hf://org/repo", "revision": "v1", "tokenSecretRef": {"name": "hub", "key": "t"}}
    made = planned(model=model, engine={"env": [{"name": "HF_TOKEN", "value": "mine"}]})
    fetch = template(find(made, "Deployment", Component.ENGINE))["spec"]["initContainers"][0]

    assert fetch["command"][:5] == ["hf", "download", "org/repo", "--revision", "v1"]
    assert [entry for entry in fetch["env"] if entry["name"] == "HF_TOKEN"] == [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "t"}}}
    ]


def test_a_single_engine_is_replaced_by_a_spare_one_and_several_in_place() -> None:
    def rollout(count: int) -> Json:
        deployment = find(planned(engine={"replicas": count}), "Deployment", Component.ENGINE)
        return dict(deployment["spec"]["strategy"]["rollingUpdate"])

    assert rollout(1) == {"maxSurge": 1, "maxUnavailable": 0}
    assert rollout(2) == {"maxSurge": 0, "maxUnavailable": 1}
