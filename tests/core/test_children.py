from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.core.quantity import canonical
from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import Json, Observed
from tests.core.fields import ROWS, with_all
from tests.core.samples import KINDS, SETTINGS, UID, find, planned, target

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def templates(objects: tuple[Json, ...]) -> list[tuple[Component, Json]]:
    """The pod template of each workload, by component."""
    made = [(obj["metadata"]["labels"], template(obj)) for obj in objects if obj["kind"] in KINDS.values()]
    return [(Component(labels["app.kubernetes.io/component"]), found) for labels, found in made]


def containers_of(objects: tuple[Json, ...]) -> Iterator[Json]:
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
        assert meta["name"] in ("chat-engine", "chat-cache", "chat-router", "chat-valkey")
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "llmcache-operator"
        assert meta["labels"]["app.kubernetes.io/instance"] != "chat", "Argo CD would prune it in label mode"


def nothings(value: Any, path: str = "") -> Iterator[str]:
    """Every null, empty map and empty list, but for the empty maps that mean something to Kubernetes."""
    if value is None or (value in ({}, []) and not path.endswith("emptyDir")):
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
    pods = {component: pod["metadata"]["labels"] for component, pod in templates(made)}

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
    for container in containers_of(planned(**spec)):
        for amounts in container.get("resources", {}).values():
            assert all(canonical(amount) == amount for amount in amounts.values())


@given(specs)
def test_pods_meet_the_restricted_pod_security_standard(spec: dict[str, Any]) -> None:
    made = planned(**spec)

    for component, made_pod in templates(made):
        pod = made_pod["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["automountServiceAccountToken"] is (component is Component.ROUTER)
        assert pod["enableServiceLinks"] is False
    for container in containers_of(made):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in security


@given(specs)
def test_every_mount_has_its_volume(spec: dict[str, Any]) -> None:
    made = planned(**spec)
    claimed = {
        claim["metadata"]["name"] for obj in made for claim in obj.get("spec", {}).get("volumeClaimTemplates", ())
    }

    for _, made_pod in templates(made):
        pod = made_pod["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | claimed
        mounts = [
            mount
            for one in [*pod.get("initContainers", []), *pod["containers"]]
            for mount in one.get("volumeMounts", [])
        ]
        assert {mount["name"] for mount in mounts} <= volumes


def test_only_engines_reach_the_port_that_unpickles() -> None:
    policy = find(planned(), "NetworkPolicy", Component.CACHE_SERVER)["spec"]
    peers = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}

    assert peers[5555] == [{"podSelector": {"matchLabels": target().selector(Component.ENGINE)}}]
    assert all("namespaceSelector" in peer for peer in peers[8080])


def test_what_others_need_is_applied_first() -> None:
    kinds = [obj["kind"] for obj in planned()]

    assert kinds.index("RoleBinding") < kinds.index("NetworkPolicy") < kinds.index("StatefulSet")
    assert kinds.index("StatefulSet") < kinds.index("Deployment")
