"""The manifests grant what the operator does, and nothing that it doesn't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from llmcache_operator.core.content import ref_key
from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.values import Observed
from llmcache_operator.edge.cluster import PLURALS
from llmcache_operator.edge.watching import CHILDREN, OPTIONAL, POD, SERVICE, watched
from tests.edge.scenario import SETTINGS, service

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

BASE = Path(__file__).parents[2] / "deploy" / "kustomize" / "base"
Grant = tuple[str, str, str]


def documents(file: str) -> list[Json]:
    return list(yaml.safe_load_all((BASE / file).read_text()))


def grants(rules: list[dict[str, Any]]) -> set[Grant]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def of(kind: tuple[str, str], verbs: str) -> set[Grant]:
    group = kind[0].rpartition("/")[0]
    return {(group, PLURALS[kind], verb) for verb in verbs.split()}


def test_the_cluster_role_is_exactly_what_the_code_needs() -> None:
    needed = of(SERVICE, "get list watch") | of(POD, "list watch")
    needed |= of(("events.k8s.io/v1", "Event"), "create patch list")
    needed |= {("llmcache.dev", "llmcacheservices/status", "patch")}
    # Passwords are made up, and nothing is ever read of them.
    needed |= {("", "secrets", "create")}
    needed |= {("llmcache.dev", "llmcacheservices/finalizers", "update")}
    for kind in (*CHILDREN, *OPTIONAL):
        needed |= of(kind, "get list watch create patch delete")
    [role] = (doc for doc in documents("clusterrole.yaml") if doc["kind"] == "ClusterRole")

    router = {("discovery.k8s.io", "endpointslices", verb) for verb in ("get", "list", "watch")}
    assert grants(role["rules"]) == needed | router


def test_what_routers_are_granted_is_held_by_the_operator() -> None:
    resource = service()
    resource["metadata"] |= {"uid": "u", "generation": 1}
    plan = decide(Observed(resource), SETTINGS).plan
    [role] = documents("clusterrole.yaml")

    granted = [grants(obj["rules"]) for obj in plan.apply if obj["kind"] == "Role"]
    assert granted
    assert set().union(*granted) <= grants(role["rules"])


def test_every_kind_of_child_is_watched() -> None:
    resource = service()
    resource["metadata"] |= {"uid": "u", "generation": 1}
    settings = replace(SETTINGS, optional_kinds=frozenset(OPTIONAL))
    resource["spec"]["router"] = {"type": "EndpointPicker"}
    per_node = {**resource, "spec": {**resource["spec"], "cache": {"topology": "NodeLocal"}}}
    both = [decide(Observed(wanted), settings).plan.apply for wanted in (resource, per_node)]
    made = {ref_key(obj)[:2] for objects in both for obj in objects}

    assert made == {*CHILDREN, *OPTIONAL}
    assert made < watched(OPTIONAL).keys()


@pytest.mark.parametrize("file", ["clusterrole.yaml", "lease-role.yaml", "user-roles.yaml"])
def test_no_role_has_wildcards_secrets_or_escalation(file: str) -> None:
    for document in documents(file):
        for group, resource, verb in grants(document.get("rules", [])):
            assert "*" not in {group, resource, verb}
            assert not resource.startswith("pods/")
            assert resource != "secrets" or verb == "create"
            assert verb not in {"escalate", "bind", "impersonate"}


@pytest.mark.parametrize("file", ["clusterrole.yaml", "lease-role.yaml", "user-roles.yaml"])
def test_every_rule_says_why(file: str) -> None:
    lines = (BASE / file).read_text().splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("  - apiGroups:")]

    assert rules
    commented = [number for number in rules if lines[number - 1].startswith("  # ")]
    # A second rule on the same resource, for another scope, shares the comment of the first.
    shared = [number for number in rules if number - 3 in rules]
    assert set(rules) == {*commented, *shared}


def test_the_operator_pod_meets_the_restricted_standard() -> None:
    [deployment] = documents("deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
