"""The mark that spares a new process the applies of the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmcache_operator.edge.intent import MARK, fulfils, marked

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

DESIRED: Json = {
    "metadata": {"name": "x", "labels": {"a": "1"}},
    "spec": {"replicas": 2, "containers": [{"name": "c", "args": ["x", "y"]}]},
}


def live(**spec: Any) -> Json:
    """What a server makes of it: defaults and others' fields come on top."""
    containers = [{"name": "c", "args": ["x", "y"], "imagePullPolicy": "IfNotPresent"}]
    meta = {"name": "x", "uid": "u", "labels": {"a": "1", "theirs": "2"}, "annotations": {MARK: "abc", "theirs": "3"}}
    return {"metadata": meta, "spec": {"replicas": 2, "containers": containers, "defaulted": True} | spec}


def test_a_mark_is_one_more_annotation() -> None:
    noted = {"metadata": {"name": "x", "annotations": {"mine": "1"}}}

    assert marked(noted, "abc")["metadata"]["annotations"] == {"mine": "1", MARK: "abc"}
    assert MARK not in noted["metadata"]["annotations"]


def test_what_the_server_and_others_added_does_not_matter() -> None:
    assert fulfils(live(), DESIRED, "abc")


def test_another_intent_is_not_fulfilled_though_all_its_values_are_there() -> None:
    assert not fulfils(live(), DESIRED, "def")
    assert not fulfils({**live(), "metadata": {"name": "x", "labels": {"a": "1"}}}, DESIRED, "abc")


@pytest.mark.parametrize(
    "changed",
    [
        {"replicas": 3},
        {"replicas": None},
        {"containers": []},
        {"containers": [{"name": "c", "args": ["y", "x"]}]},
        {"containers": [{"name": "c", "args": ["x", "y"]}, {"name": "theirs"}]},
        {"containers": "c"},
    ],
    ids=["value", "null", "item gone", "order", "item added", "type"],
)
def test_a_value_that_somebody_changed_is_noticed(changed: Json) -> None:
    assert not fulfils(live(**changed), DESIRED, "abc")
