"""Children follow the resource: what it says they become, and nobody else's edits stay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from e2e.kube import wait_until
from e2e.services import Service, manifest

if TYPE_CHECKING:
    from e2e.kube import Json, Kube

pytestmark = pytest.mark.timeout(300)
KINDS = "deployments,statefulsets,services,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets"
OWNED = {
    *("Deployment/x-engine", "Deployment/x-router", "StatefulSet/x-cache"),
    *("Service/x-engine", "Service/x-router", "Service/x-cache"),
    *("ServiceAccount/x-router", "Role/x-router", "RoleBinding/x-router"),
    *("NetworkPolicy/x-engine", "NetworkPolicy/x-router", "NetworkPolicy/x-cache"),
    *("PodDisruptionBudget/x-engine", "PodDisruptionBudget/x-router", "PodDisruptionBudget/x-cache"),
}


def children(kube: Kube) -> dict[str, Json]:
    """Return the children in the namespace by kind/name."""
    items = kube.items(KINDS, "app.kubernetes.io/managed-by=llmcache-operator")
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in items}


def generations(kube: Kube) -> dict[str, int]:
    """Return the generation of each child that has one, to see which of them a change wrote to."""
    return {name: item["metadata"].get("generation", 0) for name, item in children(kube).items()}


@pytest.fixture
def idle(kube: Kube) -> Service:
    """Provide a service whose engines are scaled to zero: its children are all there, and cost little.

    It is the same one for all tests, brought back to where it began, whatever the test before did to it.
    """
    one = Service(kube, "x")
    # Said in full: what a test patched belongs to another field manager, and would stay.
    kube.apply(manifest("x", engine={"replicas": 0}, networkPolicy="Enabled"))
    kube.run("annotate", "llmcs", "x", "llmcache.dev/paused-")

    def settled() -> bool:
        resource, found = one.resource(), children(kube)
        seen = resource.get("status", {}).get("observedGeneration") == resource["metadata"]["generation"]
        return seen and found.keys() == OWNED and all(owned_by(resource, child) for child in found.values())

    wait_until("all children as the spec has them", settled, seconds=90, every=0.5)
    return one


def owned_by(resource: Json, child: Json) -> bool:
    """Whether a child stays: it belongs to this very resource, not to one of the same name before it."""
    owner = child["metadata"]["ownerReferences"][0]["uid"]
    return owner == resource["metadata"]["uid"] and "deletionTimestamp" not in child["metadata"]


def test_deleting_the_resource_deletes_everything(idle: Service, kube: Kube) -> None:
    kube.run("delete", "llmcs", idle.name)

    wait_until("no child is left", lambda: not children(kube), seconds=90)


@pytest.mark.parametrize("child", sorted(OWNED))
def test_a_deleted_child_comes_back(idle: Service, kube: Kube, child: str) -> None:
    uid = children(kube)[child]["metadata"]["uid"]

    kube.run("delete", child, "--wait=false")

    def back() -> bool:
        found = children(kube).get(child)
        return found is not None and found["metadata"]["uid"] != uid

    wait_until(f"{child} is back", back, seconds=60)
    assert idle.resource()


@pytest.mark.parametrize(
    ("child", "patch", "path"),
    [
        ("Deployment/x-router", {"spec": {"replicas": 3}}, ("spec", "replicas")),
        ("Service/x-router", {"spec": {"ports": [{"port": 80, "targetPort": 1}]}}, ("spec", "ports")),
        ("NetworkPolicy/x-cache", {"spec": {"ingress": [{}]}}, ("spec", "ingress")),
        ("Role/x-router", {"rules": []}, ("rules",)),
        ("StatefulSet/x-cache", {"metadata": {"labels": {"llmcache.dev/service": "y"}}}, ("metadata", "labels")),
    ],
)
def test_a_child_edited_by_hand_is_put_right(
    idle: Service, kube: Kube, child: str, patch: Json, path: tuple[str, ...]
) -> None:
    def value() -> object:
        found: object = children(kube).get(child)
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    right = value()
    kube.run("patch", child, "--type=merge", "-p", json.dumps(patch))

    wait_until(f"{child} is as it was", lambda: value() == right, seconds=60)
    assert idle.resource()


def test_fields_that_others_set_on_a_child_survive(idle: Service, kube: Kube) -> None:
    kube.run("annotate", "Deployment/x-router", "example.com/team=search")
    idle.patch({"router": {"replicas": 2}})

    wait_until(
        "the router Deployment follows",
        lambda: children(kube)["Deployment/x-router"]["spec"]["replicas"] == 2,
        seconds=60,
    )
    assert children(kube)["Deployment/x-router"]["metadata"]["annotations"]["example.com/team"] == "search"


@pytest.mark.parametrize(
    ("change", "undo", "writes_to"),
    [
        ({"router": {"policy": "RoundRobin"}}, {"router": {"policy": None}}, {"Deployment/x-router"}),
        ({"cache": {"memory": "1Gi"}}, {"cache": {"memory": "512Mi"}}, {"StatefulSet/x-cache"}),
        ({"model": {"revision": "2"}}, {"model": {"revision": "1"}}, {"Deployment/x-engine"}),
        ({"engine": {"args": ["--max-num-seqs", "8"]}}, {"engine": {"args": None}}, {"Deployment/x-engine"}),
    ],
)
def test_a_change_writes_to_the_children_that_it_is_about_and_undoing_it_undoes_it(
    idle: Service, kube: Kube, change: Json, undo: Json, writes_to: set[str]
) -> None:
    before = children(kube)

    idle.patch(change)
    wait_until("the change arrived", lambda: changed(kube, before) == writes_to, seconds=60)
    idle.patch(undo)

    wait_until("the change is undone", lambda: not changed(kube, before), seconds=60)


def changed(kube: Kube, before: dict[str, Json]) -> set[str]:
    """Return the children whose spec differs from an earlier one."""
    now = children(kube)
    return {name for name in before.keys() | now.keys() if spec(now.get(name)) != spec(before.get(name))}


def spec(item: Json | None) -> object:
    """Return what an object says, by itself."""
    return None if item is None else (item.get("spec"), item.get("rules"))


def test_network_policies_go_when_they_are_switched_off(idle: Service, kube: Kube) -> None:
    idle.patch({"networkPolicy": "Disabled"})

    wanted = {name for name in OWNED if not name.startswith("NetworkPolicy/")}
    wait_until("no NetworkPolicy is left", lambda: children(kube).keys() == wanted, seconds=60)


def test_kubectl_scale_sets_the_number_of_engines(idle: Service, kube: Kube) -> None:
    kube.run("scale", "llmcs", idle.name, "--replicas=1")

    wait_until("one engine", lambda: children(kube)["Deployment/x-engine"]["spec"]["replicas"] == 1, seconds=60)


def test_an_autoscaler_keeps_its_number_once_the_spec_says_none(idle: Service, kube: Kube) -> None:
    kube.run("scale", "llmcs", idle.name, "--replicas=1")
    wait_until("one engine", lambda: children(kube)["Deployment/x-engine"]["spec"]["replicas"] == 1, seconds=60)
    idle.patch({"engine": {"replicas": None}})
    idle.wait("Ready", "False", seconds=60)
    assert children(kube)["Deployment/x-engine"]["spec"]["replicas"] == 1

    kube.run("scale", "deployment", "x-engine", "--replicas=0")
    idle.patch({"router": {"replicas": 2}})

    wait_until("the router follows", lambda: children(kube)["Deployment/x-router"]["spec"]["replicas"] == 2, seconds=60)
    assert children(kube)["Deployment/x-engine"]["spec"]["replicas"] == 0


def test_a_paused_service_is_left_alone_until_it_goes_on(idle: Service, kube: Kube) -> None:
    kube.run("annotate", "llmcs", idle.name, "llmcache.dev/paused=true")
    idle.wait("Paused", "True", seconds=30)
    kube.run("delete", "Service/x-router", "--wait=true")
    idle.patch({"router": {"replicas": 2}})
    idle.wait("Paused", "True", seconds=30)
    assert "Service/x-router" not in children(kube)

    kube.run("annotate", "llmcs", idle.name, "llmcache.dev/paused-")

    wait_until("the Service is back", lambda: "Service/x-router" in children(kube), seconds=60)
