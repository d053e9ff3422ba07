from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.core.children import engine
from llmcache_operator.core.content import fingerprint, owns_replicas
from llmcache_operator.core.reconcile import Decision, decide
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import Json, Observed, Plan
from tests.core.samples import MODEL, SETTINGS, find, live, planned, resource, stamp, target

OURS = {"app.kubernetes.io/managed-by": "llmcache-operator"}


def decided(*children: Json, **spec: Any) -> Decision:
    return decide(Observed(resource(**spec), children), SETTINGS)


def owned(kind: str, name: str, labels: Json | None = None, **metadata: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "uid": name, "labels": OURS if labels is None else labels} | metadata,
    }


def test_a_plan_is_the_same_every_time() -> None:
    assert decided() == decided()


def test_nothing_is_pruned_where_all_that_is_there_is_wanted() -> None:
    assert decided(*(live(obj) for obj in planned())).plan.prune == ()


def test_what_is_wanted_no_longer_is_pruned() -> None:
    children = [live(obj) for obj in planned()]
    plan = decided(*children, networkPolicy="Disabled").plan

    assert {obj["kind"] for obj in plan.prune} == {"NetworkPolicy"}
    assert len(plan.prune) == 3


def test_only_the_operators_own_leftovers_are_pruned() -> None:
    leftover = owned("Service", "chat-old")
    others = (
        owned("ConfigMap", "theirs", {}),
        owned("Service", "theirs", {"app.kubernetes.io/managed-by": "Helm"}),
        owned("Service", "leaving", deletionTimestamp=stamp()),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bare", "uid": "u"}},
    )

    assert decided(leftover, *others).plan.prune == (leftover,)


@given(st.data())
def test_apply_and_prune_never_meet(data: st.DataObject) -> None:
    children = [live(obj) for obj in planned()] + [owned("Service", f"old-{n}") for n in range(3)]
    there = data.draw(st.lists(st.sampled_from(children), unique_by=lambda obj: (obj["kind"], obj["metadata"]["name"])))
    plan = decided(*there, networkPolicy=data.draw(st.sampled_from(["Enabled", "Disabled"]))).plan
    names = [{(obj["kind"], obj["metadata"]["name"]) for obj in part} for part in (plan.apply, plan.prune)]

    assert not names[0] & names[1]
    assert all(obj in there for obj in plan.prune)


def test_a_pause_leaves_everything_as_it_is() -> None:
    paused = decided(owned("Service", "chat-old"), annotations={"llmcache.dev/paused": "true"})

    assert paused.paused
    assert paused.plan == Plan((), ())
    assert paused.target is not None
    assert not decided(annotations={"llmcache.dev/paused": "false"}).paused


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"engine": {"replicas": -1}}, ("spec.engine.replicas", "-1")),
        ({"model": {}}, ("spec.model.uri", "required")),
        ({"cache": {"memory": "plenty"}}, ("spec.cache.memory", "plenty")),
        ({"router": {"policy": "Random"}}, ("spec.router.policy", "PrefixAware")),
        ({"engine": None}, ("spec.engine",)),
    ],
)
def test_a_spec_that_can_not_be_read_changes_nothing_and_says_why(spec: Json, words: tuple[str, ...]) -> None:
    invalid = decided(owned("Service", "chat-old"), **spec)

    assert invalid.plan == Plan((), ())
    assert invalid.target is None
    assert all(word in (invalid.error or "") for word in words), invalid.error


def test_a_resource_without_a_spec_is_told_so() -> None:
    bare = resource()
    del bare["spec"]

    assert "spec" in (decide(Observed(bare), SETTINGS).error or "")


def test_a_long_list_of_errors_stays_readable() -> None:
    error = decided(engine={"env": [{"name": "x" * 10_000}] * 50}).error or ""

    assert 0 < len(error) < 3000


def test_a_status_of_another_version_does_not_matter() -> None:
    odd = resource() | {"status": {"engines": "many", "conditions": [{"type": 1}]}}

    assert decide(Observed(odd), SETTINGS).error is None


def test_fields_of_a_newer_crd_are_passed_over() -> None:
    assert decided(model=MODEL | {"adapter": "x"}, future={"a": 1}).plan == decided().plan


def deployment(*managers: str, replicas: int | None = 3) -> Json:
    obj = live(find(planned(), "Deployment", Component.ENGINE))
    fields = [{"manager": name, "fieldsV1": {"f:spec": {"f:replicas": {}}}} for name in managers]
    fields.append({"manager": "kube-controller-manager", "fieldsV1": {"f:status": {}}, "subresource": "status"})
    obj["metadata"]["managedFields"] = fields
    obj["spec"]["replicas"] = replicas
    return obj


def test_the_number_in_the_spec_is_the_number_that_is_applied() -> None:
    assert engine.replicas(target(engine={"replicas": 2}), deployment("someone")) == 2
    assert engine.replicas(target(engine={"replicas": 0}), None) == 0


def test_a_number_that_was_taken_out_is_kept_until_somebody_else_owns_it() -> None:
    """Server-side apply would let the field fall back to its default of 1 at once."""
    assert engine.replicas(target(), deployment("llmcache-operator")) == 3
    assert engine.replicas(target(), deployment("llmcache-operator", "horizontal-pod-autoscaler")) is None
    assert engine.replicas(target(), deployment("kubectl")) is None
    assert engine.replicas(target(), None) is None


def test_who_owns_the_number_is_read_from_managed_fields() -> None:
    assert owns_replicas(deployment("llmcache-operator"))
    assert not owns_replicas(deployment())
    assert not owns_replicas({"metadata": {}})


def test_a_fingerprint_is_of_what_was_asked_for_only() -> None:
    obj = find(planned(), "Deployment", Component.ENGINE)
    noise = live(obj, generation=7) | {"spec": obj["spec"]}
    noise["metadata"]["resourceVersion"] = "12"

    assert fingerprint(noise) == fingerprint(obj)
    assert fingerprint(obj | {"spec": obj["spec"] | {"replicas": 9}}) != fingerprint(obj)
    assert fingerprint(obj | {"metadata": obj["metadata"] | {"labels": {}}}) != fingerprint(obj)
