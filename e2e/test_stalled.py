"""Causes that only the cluster can know: each is named on the resource, and goes when it is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.kube import Json, Kube
    from e2e.services import Service

pytestmark = [pytest.mark.timeout(400), pytest.mark.usefixtures("models")]
SECRET_ENV = {"env": [{"name": "TEAM_KEY", "valueFrom": {"secretKeyRef": {"name": "team", "key": "key"}}}]}
ZERO = {"replicas": 0}


def stalled(service: Service, reason: str, *words: str, seconds: float = 120) -> None:
    """Wait for Stalled with a reason, and check that the message names what it should."""
    message = service.wait("Stalled", "True", reason, seconds=seconds)["message"]
    for word in words:
        assert word in message
    assert service.condition("Ready")["status"] == "False"


def mended(service: Service, spec: Json) -> None:
    """Change the spec and wait until nothing stalls."""
    service.patch(spec)
    service.wait("Ready", "True", seconds=200)
    assert service.condition("Stalled") == {}


@pytest.mark.parametrize(
    ("parts", "reason", "words", "mend"),
    [
        pytest.param(
            {"engine": {"image": "localhost/none/such:1"}},
            "ImagePullFailed",
            ["localhost/none/such:1", "spec.engine.image"],
            {"engine": {"replicas": 0, "image": None}},
            id="image that is not there",
        ),
        pytest.param(
            {"model": {"uri": "pvc://nowhere/model"}},
            "VolumeClaimMissing",
            ["nowhere", "spec.model.uri"],
            {"engine": ZERO},
            id="claim that is not there",
        ),
        pytest.param(
            {"model": {"uri": "pvc://models/nothing"}},
            "ModelUnusable",
            ["nothing"],
            {"engine": ZERO},
            id="model that is not in the claim",
        ),
        pytest.param(
            {"engine": {"resources": {"requests": {"memory": "900Gi"}}}},
            "Unschedulable",
            ["memory"],
            {"engine": {"replicas": 0, "resources": {"requests": {"memory": "2Gi"}}}},
            id="memory that no node has",
        ),
        pytest.param(
            {"engine": {"resources": {"requests": {"memory": "9Gi"}, "limits": {"memory": "1Gi"}}}},
            "ChildRejected",
            ["x-engine", "requests", "memory limit"],
            {"engine": {"replicas": 0, "resources": {"requests": {"memory": "1Gi"}}}},
            id="request above its limit",
        ),
        pytest.param(
            {"engine": {"template": {"spec": {"volumeMounts": [{"name": "nope", "mountPath": "/nope"}]}}}},
            "ChildRejected",
            ["x-engine", "nope"],
            {"engine": {"replicas": 0, "template": {"spec": {"volumeMounts": None}}}},
            id="mount of a volume that is not there",
        ),
        pytest.param(
            {"engine": {"template": {"spec": {"priorityClassName": "nobody"}}}},
            "PodsRejected",
            ["nobody"],
            {"engine": {"replicas": 0, "template": {"spec": {"priorityClassName": None}}}},
            id="priority class that is not there",
        ),
        pytest.param(
            {"engine": {"args": ["--no-such-option"]}},
            "EngineCrashing",
            ["no-such-option"],
            {"engine": {"replicas": 0, "args": None}},
            id="argument that vLLM does not know",
        ),
    ],
)
def test_a_cause_is_named_and_goes_when_it_is_mended(
    service: Callable[..., Service], parts: dict[str, Json], reason: str, words: list[str], mend: Json
) -> None:
    one = service("x", **parts)

    stalled(one, reason, *words, seconds=240)
    mended(one, mend)


def test_a_missing_secret_is_named_and_creating_it_is_enough(service: Callable[..., Service], kube: Kube) -> None:
    one = service("x", engine=SECRET_ENV)
    stalled(one, "SecretMissing", "team", seconds=200)

    kube.run("create", "secret", "generic", "team", "--from-literal=key=1")

    one.wait("Ready", "True", seconds=300)
    assert one.condition("Stalled") == {}


def test_a_quota_is_named_and_raising_it_is_enough(service: Callable[..., Service], kube: Kube) -> None:
    kube.run("create", "quota", "small", "--hard=count/statefulsets.apps=0")
    one = service("x", engine=ZERO)
    stalled(one, "QuotaExceeded", "small", "x-cache")

    kube.run("delete", "quota", "small")

    one.wait("Ready", "True", seconds=200)


def test_a_child_that_belongs_to_somebody_else_is_left_alone(service: Callable[..., Service], kube: Kube) -> None:
    kube.run("create", "service", "clusterip", "x-router", "--tcp=80:80")
    one = service("x", engine=ZERO)
    stalled(one, "NameTaken", "x-router")
    taken = kube.get("service", "x-router") or {}
    assert "ownerReferences" not in taken["metadata"]

    kube.run("delete", "service", "x-router")

    one.wait("Ready", "True", seconds=200)
