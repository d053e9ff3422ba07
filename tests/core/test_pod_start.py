"""Why a pod gets no containers, from what the kubelet of Kubernetes 1.37 really says in Events."""

from __future__ import annotations

import pytest

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.diagnosis import diagnose
from llmcache_operator.core.pod_start import worth_asking
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import Complaint, Finding, Json, Observed
from tests.core.containers import waiting
from tests.core.samples import NOW, find, planned, pod, resource, stamp

EDGE: Json = {"auth": {"apiKeysSecretRef": {"name": "team-keys"}}, "tls": {"secretRef": {"name": "chat-tls"}}}
SET_UP = 'MountVolume.SetUp failed for volume "tls" : '


def router_pod(ago: float, name: str = "chat-router-0", sandbox: str = "False") -> Json:
    """A router's pod that has had a node for a while and has no containers."""
    made = pod(
        Component.ROUTER,
        name,
        phase="Pending",
        startTime=stamp(ago),
        conditions=[{"type": "PodReadyToStartContainers", "status": sandbox}],
        containerStatuses=[waiting("ContainerCreating", name="router")],
    )
    template = find(planned(router=EDGE), "Deployment", Component.ROUTER)["spec"]["template"]
    return made | {"spec": template["spec"]}


def found(ago: float, *said: tuple[str, float]) -> tuple[Finding, ...]:
    seen = router_pod(ago)
    complaints = tuple(Complaint(seen["metadata"]["uid"], text, NOW - age) for text, age in said)
    return diagnose(Observed(resource(), (), (seen,), complaints), (), NOW)


MISSING = {
    "Secret": (SET_UP + 'secret "chat-tls" not found', Reason.SECRET_MISSING, "Secret chat-tls does not exist"),
    "key of a Secret": (
        SET_UP + "references non-existent secret key: tls.crt",
        Reason.SECRET_MISSING,
        "Secret chat-tls has no key tls.crt",
    ),
    "ConfigMap": (
        SET_UP + 'configmap "settings" not found',
        Reason.CONFIG_MAP_MISSING,
        "ConfigMap settings does not exist",
    ),
    "key of a ConfigMap": (
        'MountVolume.SetUp failed for volume "gone" : references non-existent config key: a.yaml',
        Reason.CONFIG_MAP_MISSING,
        "ConfigMap of the volume has no key a.yaml",
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_a_volume_lacks_is_named_soon(what: str) -> None:
    message, reason, words = MISSING[what]

    (finding,) = found(12, (message, 1))

    assert (finding.component, finding.reason) == ("router", reason)
    assert words in finding.message
    assert "Create it" in finding.message


def test_a_secret_that_comes_a_moment_after_the_service_is_no_news() -> None:
    assert found(5, (MISSING["Secret"][0], 1)) == ()


def test_what_the_kubelet_said_long_ago_is_over() -> None:
    (finding,) = found(600, (MISSING["Secret"][0], 400))

    assert finding.reason is Reason.POD_NOT_STARTING


def test_other_trouble_is_told_in_the_kubelets_own_words_after_a_minute() -> None:
    said = ("Failed to create pod sandbox: plugin type=calico failed.", 5)
    (finding,) = found(90, said)

    assert found(30, said) == ()
    assert finding.reason is Reason.POD_NOT_STARTING
    assert "plugin type=calico failed. See: kubectl describe pod chat-router-0" in finding.message


def test_words_about_another_pod_say_nothing_of_this_one() -> None:
    observed = Observed(resource(), (), (router_pod(90),), (Complaint("another", MISSING["Secret"][0], NOW - 1),))
    (finding,) = diagnose(observed, (), NOW)

    assert finding.reason is Reason.POD_NOT_STARTING


def test_one_pod_of_a_component_is_asked_about_and_only_while_it_does_not_start() -> None:
    first, second = router_pod(30), router_pod(30, "chat-router-1")
    pulling, young, runs = router_pod(30, sandbox="True"), router_pod(2), pod(Component.ENGINE)

    assert worth_asking((runs, first, second), NOW) == (first,)
    assert worth_asking((pulling, young, runs), NOW) == ()
