"""Every Reason that the API server and workloads give, from what Kubernetes 1.37 really says."""

from __future__ import annotations

from typing import Any

import pytest

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.diagnosis import diagnose
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import Finding, Json, ObjectRef, Observed, Rejection
from tests.core.containers import LOOP, container, ended, waiting
from tests.core.samples import NOW, find, live, planned, pod, resource, stamp

ENGINE, CACHE, ROUTER = Component.ENGINE, Component.CACHE_SERVER, Component.ROUTER
REFUSED_BY_RBAC = (
    'deployments.apps "chat-engine" is forbidden: User "system:serviceaccount:llmcache-system:llmcache-operator" '
    'cannot patch resource "deployments" in API group "apps" in the namespace "team"'
)
ESCALATION = (
    'roles.rbac.authorization.k8s.io "chat-router" is forbidden: user "system:serviceaccount:llmcache-system:'
    'llmcache-operator" (groups=["system:serviceaccounts"]) is attempting to grant RBAC permissions not currently '
    "held:\n"
    '{APIGroups:["discovery.k8s.io"], Resources:["endpointslices"], Verbs:["get" "list" "watch"]}'
)
POLICY = (
    "deployments.apps \"chat-engine\" is forbidden: ValidatingAdmissionPolicy 'images' with binding 'images' denied "
    "request: images must come from our registry"
)
QUOTA = (
    'pods "chat-engine-5c8c-x7k2p" is forbidden: exceeded quota: team, requested: requests.cpu=4, used: '
    "requests.cpu=8, limited: requests.cpu=10"
)
POD_SECURITY = (
    'pods "chat-engine-5c8c-x7k2p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true '
    "(pod must not set securityContext.runAsNonRoot=false)"
)


def observed(*pods: Json, children: tuple[Json, ...] = ()) -> Observed:
    return Observed(resource(), children, pods)


def of_pods(*pods: Json) -> tuple[Finding, ...]:
    return diagnose(observed(*pods), (), NOW)


def rejection(
    message: str, code: int = 422, reason: str = "Invalid", kind: str = "Deployment", name: str = "chat-engine"
) -> Rejection:
    return Rejection(ObjectRef("apps/v1", kind, name), code, reason, message)


REJECTIONS = {
    "a bad field": (
        rejection(
            'Deployment.apps "chat-engine" is invalid: spec.template.spec.volumes[1].name: Duplicate value: "run"'
        ),
        Reason.CHILD_REJECTED,
        "Duplicate value",
    ),
    "a policy": (rejection(POLICY, 403, "Forbidden"), Reason.CHILD_REJECTED, "our registry"),
    "a webhook": (
        rejection('admission webhook "x" denied the request: no', 403, "Forbidden"),
        Reason.CHILD_REJECTED,
        "denied the request",
    ),
    "another owner": (rejection("owned by somebody else", 409, "NameTaken"), Reason.NAME_TAKEN, "rename this service"),
    "an object quota": (
        rejection('deployments.apps "chat-engine" is forbidden: exceeded quota: team', 403, "Forbidden"),
        Reason.QUOTA_EXCEEDED,
        "Raise the quota",
    ),
    "no permission": (rejection(REFUSED_BY_RBAC, 403, "Forbidden"), Reason.OPERATOR_FORBIDDEN, "ClusterRole"),
    "no permission to grant": (
        rejection(ESCALATION, 403, "Forbidden", "Role", "chat-router"),
        Reason.OPERATOR_FORBIDDEN,
        "ClusterRole",
    ),
}


@pytest.mark.parametrize("cause", REJECTIONS)
def test_what_the_api_server_had_against_a_child_is_told(cause: str) -> None:
    refused, reason, words = REJECTIONS[cause]

    (finding,) = diagnose(observed(), [refused], NOW)

    assert finding.reason is reason
    assert finding.rejected
    assert finding.component == ("router" if refused.ref.name == "chat-router" else "engine")
    assert refused.ref.name in finding.message
    assert words in finding.message


@pytest.mark.parametrize(("message", "reason"), [(QUOTA, Reason.QUOTA_EXCEEDED), (POD_SECURITY, Reason.PODS_REJECTED)])
def test_a_deployment_whose_pods_are_refused_says_why(message: str, reason: Reason) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    deployment = live(find(planned(), "Deployment", ENGINE), ready=0, conditions=[condition])

    (finding,) = diagnose(observed(children=(deployment,)), (), NOW)

    assert finding.reason is reason
    assert message.split(":", maxsplit=1)[0] in finding.message


def test_a_replica_failure_that_is_over_is_no_finding() -> None:
    condition = {"type": "ReplicaFailure", "status": "False", "message": QUOTA}

    assert (
        diagnose(observed(children=(live(find(planned(), "Deployment", ENGINE), conditions=[condition]),)), (), NOW)
        == ()
    )


def podless(**changes: Any) -> Json:
    return live(find(planned(), "StatefulSet", CACHE), ready=0, replicas=0, **changes)


def test_a_stateful_set_that_gets_no_pod_is_told_of() -> None:
    """StatefulSets have no ReplicaFailure condition: a quota would otherwise never show."""
    (finding,) = diagnose(observed(children=(podless(),)), (), NOW)

    assert finding.reason is Reason.PODS_REJECTED
    assert finding.component == "cache-server"
    assert "kubectl describe statefulset chat-cache" in finding.message


def test_a_stateful_set_gets_a_moment_for_its_first_pod() -> None:
    young = podless()
    young["metadata"]["creationTimestamp"] = stamp(5)
    unseen = podless(observedGeneration=0)
    full = live(find(planned(), "StatefulSet", CACHE))

    assert diagnose(observed(children=(young,)), (), NOW) == ()
    assert diagnose(observed(children=(unseen,)), (), NOW) == ()
    assert diagnose(observed(children=(full,)), (), NOW) == ()


def test_rejections_come_first_and_the_order_of_pods_says_nothing() -> None:
    first = pod(ENGINE, "chat-engine-a", ready=False, containerStatuses=[waiting("ErrImagePull", "not found")])
    second = pod(ENGINE, "chat-engine-b", ready=False, containerStatuses=[container(restarts=2, last=ended(), **LOOP)])
    refused = rejection("no")

    forwards = diagnose(observed(first, second), [refused], NOW)

    assert forwards == diagnose(observed(second, first), [refused], NOW)
    assert [finding.reason for finding in forwards] == [
        Reason.CHILD_REJECTED,
        Reason.IMAGE_PULL_FAILED,
        Reason.ENGINE_CRASHING,
    ]


def test_two_pods_that_fail_alike_are_one_cause() -> None:
    crash = [container(restarts=2, last=ended(), **LOOP)]
    pods = [pod(ENGINE, f"chat-engine-{name}", ready=False, containerStatuses=crash) for name in "ab"]

    (finding,) = of_pods(*pods)

    assert "chat-engine-a" in finding.message
