from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from llmcache_operator.core.quantity import canonical
from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import Json, Observed

from tests.core.fields import ROWS, with_all
from tests.core.samples import KINDS, SETTINGS, UID, find, main_container, planned, target

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden")
EXAMPLES = sorted(path.name for path in (REPOSITORY / "deploy" / "examples").glob("*.yaml"))
HEADER = (
    "# What the operator makes of deploy/examples/{}. Written by `pytest --update-golden`; review its diff like code.\n"
)


class Plain(yaml.SafeDumper):
    """Writes every part out: anchors would make one change look like another."""

    def ignore_aliases(self, data: object) -> bool:
        return True


# Specs that set any mixture of fields: every mixture is valid.
specs = st.sets(st.sampled_from(sorted(ROWS))).map(with_all)


def template(obj: Json) -> Json:
    return dict(obj["spec"]["template"])


def containers(objects: tuple[Json, ...]) -> Iterator[Json]:
    for obj in objects:
        if obj["kind"] in KINDS.values():
            spec = template(obj)["spec"]
            yield from [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_makes_the_children_of_its_golden_file(name: str, pytestconfig: pytest.Config) -> None:
    example = yaml.safe_load((REPOSITORY / "deploy" / "examples" / name).read_text())
    example["metadata"] |= {"namespace": "default", "uid": UID, "generation": 1}
    made = decide(Observed(example), SETTINGS).plan.apply
    golden = GOLDEN / name
    if pytestconfig.getoption("update_golden"):
        golden.write_text(HEADER.format(name) + yaml.dump_all(made, Dumper=Plain, sort_keys=False, width=120))

    assert made == tuple(yaml.safe_load_all(golden.read_text()))


def test_no_golden_file_is_left_over() -> None:
    assert sorted(path.name for path in GOLDEN.iterdir()) == EXAMPLES


@given(specs)
def test_every_child_is_owned_labelled_and_named_after_its_service(spec: dict[str, Any]) -> None:
    made = planned(**spec)

    assert len({(obj["kind"], obj["metadata"]["name"]) for obj in made}) == len(made)
    for obj in made:
        meta = obj["metadata"]
        (owner,) = meta["ownerReferences"]
        assert owner == {
            "apiVersion": "llmcache.dev/v1alpha1",
            "kind": "LLMCacheService",
            "name": "chat",
            "uid": UID,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        assert meta["namespace"] == "team"
        assert meta["name"] in ("chat-engine", "chat-cache", "chat-router")
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "llmcache-operator"
        assert meta["labels"]["app.kubernetes.io/instance"] != "chat", "Argo CD would prune it in label mode"


def nothings(value: Any, path: str = "") -> Iterator[str]:
    """Every null, empty map and empty list, but for the empty maps that mean something to Kubernetes."""
    if value is None or (value in ({}, []) and not path.endswith(("emptyDir", "DuringExecution"))):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in items:
        yield from nothings(inner, f"{path}.{key}")


@given(specs)
def test_no_child_says_anything_empty(spec: dict[str, Any]) -> None:
    assert [path for obj in planned(**spec) for path in nothings(obj, obj["kind"])] == []


@given(specs)
def test_selectors_find_the_pods_of_their_component_only(spec: dict[str, Any]) -> None:
    made = planned(**spec)
    pods = {component: template(find(made, kind, component))["metadata"]["labels"] for component, kind in KINDS.items()}

    for obj in made:
        component = Component(obj["metadata"]["labels"]["app.kubernetes.io/component"])
        selectors = {
            "Service": lambda spec: spec["selector"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
        } | dict.fromkeys(
            ("Deployment", "StatefulSet", "PodDisruptionBudget"), lambda spec: spec["selector"]["matchLabels"]
        )
        if obj["kind"] in selectors:
            selected = selectors[obj["kind"]](obj["spec"])
            assert [part for part, labels in pods.items() if selected.items() <= labels.items()] == [component]


KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ports": ("protocol",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
}


def lists(value: Any, name: str = "") -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from lists(inner, key)
    elif isinstance(value, list | tuple):
        yield name, list(value)
        for inner in value:
            yield from lists(inner)


@given(specs)
def test_lists_that_server_side_apply_merges_have_their_keys_once_each(spec: dict[str, Any]) -> None:
    """Source: x-kubernetes-list-map-keys in Kubernetes' OpenAPI."""
    for name, entries in (found for obj in planned(**spec) for found in lists(obj)):
        if name in KEYS:
            assert all(key in entry for entry in entries for key in KEYS[name]), (name, entries)
        if name in KEYS and name != "ports":
            keys = [tuple(entry[key] for key in KEYS[name]) for entry in entries]
            assert len(set(keys)) == len(keys), (name, keys)


@given(specs)
def test_amounts_are_written_as_the_api_server_keeps_them(spec: dict[str, Any]) -> None:
    for container in containers(planned(**spec)):
        for amounts in container.get("resources", {}).values():
            assert all(canonical(amount) == amount for amount in amounts.values())


@given(specs)
def test_pods_meet_the_restricted_pod_security_standard(spec: dict[str, Any]) -> None:
    made = planned(**spec)

    for component, kind in KINDS.items():
        pod = template(find(made, kind, component))["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["automountServiceAccountToken"] is (component is Component.ROUTER)
        assert pod["enableServiceLinks"] is False
    for container in containers(made):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in security


@given(specs)
def test_every_mount_has_its_volume(spec: dict[str, Any]) -> None:
    made = planned(**spec)

    for component, kind in KINDS.items():
        pod = template(find(made, kind, component))["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        mounts = [
            mount
            for one in [*pod.get("initContainers", []), *pod["containers"]]
            for mount in one.get("volumeMounts", [])
        ]
        assert {mount["name"] for mount in mounts} <= volumes


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
    ("memory", "size", "limit"),
    [("4Gi", "4", "5530Mi"), ("512Mi", "0.5", "1588Mi"), ("930Gi", "930", "1Ti"), ("1G", "0.931323", "2074Mi")],
)
def test_the_cache_servers_limit_follows_from_its_memory(memory: str, size: str, limit: str) -> None:
    resources = main_container(planned(cache={"memory": memory}), Component.CACHE_SERVER)["resources"]

    assert option(Component.CACHE_SERVER, "--l1-size-gb", cache={"memory": memory}) == size
    assert resources["limits"] == {"memory": limit}
    assert resources["requests"]["memory"] == limit


def test_engines_see_the_model_at_a_path_that_carries_its_identity() -> None:
    engine = find(planned(), "Deployment", Component.ENGINE)
    gate = next(one for one in template(engine)["spec"]["initContainers"] if one["name"] == "gate")
    identity = template(engine)["metadata"]["annotations"]["llmcache.dev/cache-identity"]

    assert gate["args"][gate["args"].index("--identity") + 1] == identity
    assert "/llmcache/source" not in str(main_container(planned(), Component.ENGINE)["args"])


@pytest.mark.parametrize(
    ("uri", "volume", "folder"),
    [
        ("pvc://models", {"persistentVolumeClaim": {"claimName": "models"}}, "/llmcache/source"),
        ("pvc://models/a/b", {"persistentVolumeClaim": {"claimName": "models"}}, "/llmcache/source/a/b"),
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


def test_only_engines_reach_the_port_that_unpickles() -> None:
    policy = find(planned(), "NetworkPolicy", Component.CACHE_SERVER)["spec"]
    peers = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}

    assert peers[5555] == [{"podSelector": {"matchLabels": target().selector(Component.ENGINE)}}]
    assert all("namespaceSelector" in peer for peer in peers[8080])


def test_what_others_need_is_applied_first() -> None:
    kinds = [obj["kind"] for obj in planned()]

    assert kinds.index("RoleBinding") < kinds.index("NetworkPolicy") < kinds.index("StatefulSet")
    assert kinds.index("StatefulSet") < kinds.index("Deployment")
