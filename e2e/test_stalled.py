"""Causes that only the cluster can know: each is named on the resource, and goes when it is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.services import Service, manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.kube import Json, Kube

pytestmark = [pytest.mark.timeout(400), pytest.mark.usefixtures("models")]
SECRET_ENV = {"env": [{"name": "TEAM_KEY", "valueFrom": {"secretKeyRef": {"name": "team", "key": "key"}}}]}
ZERO = {"replicas": 0}


@pytest.fixture
def x(kube: Kube, models: None) -> Service:  # noqa: ARG001
    """Provide a service without engines that is ready; one for all tests, brought back to that."""
    one = Service(kube, "x")
    kube.apply(manifest("x", engine=ZERO))
    one.wait("Ready", "True", seconds=200)
    return one


def stalled(service: Service, reason: str, *words: str, seconds: float = 120) -> None:
    """Wait for Stalled with a reason, and check that the message names what it should."""
    message = service.wait("Stalled", "True", reason, seconds=seconds)["message"]
    for word in words:
        assert word in message
    assert service.condition("Ready")["status"] == "False"


@pytest.mark.parametrize(
    ("parts", "reason", "words"),
    [
        pytest.param(
            {"engine": {"image": "localhost/none/such:1"}},
            "ImagePullFailed",
            ["localhost/none/such:1", "spec.engine.image"],
            id="image that is not there",
        ),
        pytest.param(
            {"model": {"uri": "pvc://nowhere/model"}},
            "VolumeClaimMissing",
            ["nowhere", "spec.model.uri"],
            id="claim that is not there",
        ),
        pytest.param(
            {"model": {"uri": "pvc://models/nothing"}},
            "ModelUnusable",
            ["nothing"],
            id="model that is not in the claim",
        ),
        pytest.param(
            {"engine": {"resources": {"requests": {"memory": "900Gi"}}}},
            "Unschedulable",
            ["memory"],
            id="memory that no node has",
        ),
        pytest.param(
            {"engine": {"resources": {"requests": {"memory": "9Gi"}, "limits": {"memory": "1Gi"}}}},
            "ChildRejected",
            ["x-engine", "requests"],
            id="request above its limit",
        ),
        pytest.param(
            {"engine": {"template": {"spec": {"volumeMounts": [{"name": "nope", "mountPath": "/nope"}]}}}},
            "ChildRejected",
            ["x-engine", "nope"],
            id="mount of a volume that is not there",
        ),
        pytest.param(
            {"engine": {"template": {"spec": {"priorityClassName": "nobody"}}}},
            "PodsRejected",
            ["nobody"],
            id="priority class that is not there",
        ),
        pytest.param(
            {"engine": {"args": ["--no-such-option"]}},
            "EngineCrashing",
            ["no-such-option"],
            id="argument that vLLM does not know",
        ),
    ],
)
def test_a_cause_is_named_and_goes_when_it_is_mended(
    x: Service, parts: dict[str, Json], reason: str, words: list[str]
) -> None:
    x.kube.apply(manifest("x", **parts))
    stalled(x, reason, *words, seconds=240)

    x.kube.apply(manifest("x", engine=ZERO))

    x.wait("Ready", "True", seconds=120)
    assert x.condition("Stalled") == {}


def test_a_missing_secret_is_named_and_creating_it_is_enough(x: Service) -> None:
    x.kube.apply(manifest("x", engine=SECRET_ENV))
    stalled(x, "SecretMissing", "team", seconds=200)

    x.kube.run("create", "secret", "generic", "team", "--from-literal=key=1")

    x.wait("Ready", "True", seconds=300)
    assert x.condition("Stalled") == {}


def test_a_missing_secret_of_the_router_is_named_and_creating_it_is_enough(x: Service) -> None:
    keys = {"auth": {"apiKeysSecretRef": {"name": "edge"}}}
    x.kube.apply(manifest("x", engine=ZERO, router=keys))
    stalled(x, "SecretMissing", "edge", seconds=200)

    x.kube.run("create", "secret", "generic", "edge", "--from-literal=keys=1")

    x.wait("Ready", "True", seconds=300)
    assert x.condition("Stalled") == {}


def test_a_quota_is_named_and_raising_it_is_enough(service: Callable[..., Service], kube: Kube) -> None:
    kube.run("create", "quota", "small", "--hard=count/statefulsets.apps=0")
    one = service("q", engine=ZERO)
    stalled(one, "QuotaExceeded", "small", "q-cache")

    kube.run("delete", "quota", "small")

    one.wait("Ready", "True", seconds=200)


def test_a_child_that_belongs_to_somebody_else_is_left_alone(service: Callable[..., Service], kube: Kube) -> None:
    kube.run("create", "service", "clusterip", "n-router", "--tcp=80:80")
    one = service("n", engine=ZERO)
    stalled(one, "NameTaken", "n-router")
    taken = kube.get("service", "n-router") or {}
    assert "ownerReferences" not in taken["metadata"]

    kube.run("delete", "service", "n-router")

    one.wait("Ready", "True", seconds=200)
