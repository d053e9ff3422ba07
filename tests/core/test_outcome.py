from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmcache_operator.api.status import ServiceStatus
from llmcache_operator.core.children.inference_pool import INFERENCE_POOL
from llmcache_operator.core.outcome import _transitions, outcome, should_write
from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import EngineSample, Json, ObjectRef, Observed, Outcome, Rejection
from llmcache_operator.core.window import Measurement
from tests.core.samples import NOW, SETTINGS, cluster, condition_of, find, live, planned, pod, resource
from tests.core.story import Story

ENGINE, CACHE, ROUTER = Component.ENGINE, Component.CACHE_SERVER, Component.ROUTER
SPEC: dict[str, Any] = {"engine": {"replicas": 2}}
ALL_READY = cluster(**SPEC)
PODS = (pod(ENGINE, "chat-engine-0"), pod(ENGINE, "chat-engine-1"), pod(CACHE))
NOTHING = Measurement()
REFUSED = Rejection(ObjectRef("apps/v1", "Deployment", "chat-engine"), 422, "Invalid", "no")


def reconciled(
    previous: Json | None = None,
    children: dict[Component, Json] = ALL_READY,
    *,
    rejections: tuple[Rejection, ...] = (),
    measurement: Measurement = NOTHING,
    now: float = NOW,
    generation: int = 1,
    **changes: Any,
) -> Outcome:
    obj = resource(generation=generation, status=previous, **SPEC | changes)
    observed = Observed(obj, tuple(children.values()), PODS if children else ())
    return outcome(decide(observed, SETTINGS), observed, rejections, measurement, now)


def measured(engine_hits: int = 0) -> Measurement:
    found = Measurement()
    for at, counts in ((NOW - 100, (0, 0, 0)), (NOW - 5, (100, engine_hits, 0))):
        for index in (0, 1):
            found = found.with_engine(
                EngineSample(f"chat-engine-{index}", f"uid-chat-engine-{index}", at, *counts, started_at=1.0)
            )
    return found


def told(found: Outcome) -> list[tuple[str, str]]:
    return [(transition.kind, transition.reason) for transition in found.transitions]


def of(found: Outcome, kind: str) -> tuple[str, str]:
    condition = condition_of(found.status["conditions"], kind)
    return condition["status"], condition["reason"]


def names(found: Outcome) -> set[str]:
    return {condition["type"] for condition in found.status["conditions"]}


def test_a_status_says_what_was_found_and_nothing_that_was_not() -> None:
    status = reconciled(measurement=measured(engine_hits=300)).status

    assert status["observedGeneration"] == 1
    assert status["url"] == "http://chat-router.team.svc"
    assert status["engines"] == {
        "desired": 2,
        "ready": 2,
        "summary": "2/2",
        "selector": "llmcache.dev/service=chat,app.kubernetes.io/component=engine",
    }
    assert status["cache"]["hitRatePercent"] == 75
    assert "usedPercent" not in status["cache"]
    assert ServiceStatus.model_validate(status).model_dump(by_alias=True, exclude_none=True) == status


def test_behind_a_gateway_there_is_no_url_and_the_way_to_the_engines_is_told() -> None:
    spec = SPEC | {"router": {"type": "EndpointPicker"}}
    there = replace(SETTINGS, optional_kinds=frozenset({INFERENCE_POOL}))
    for settings, words in ((SETTINGS, "no kind InferencePool"), (there, "InferencePool chat-engine")):
        observed = Observed(resource(**spec), tuple(cluster(**spec).values()), PODS)
        found = outcome(decide(observed, settings), observed, (), NOTHING, NOW)

        assert "url" not in found.status
        assert of(found, "RouterReady") == ("True", "Available")
        assert words in condition_of(found.status["conditions"], "RouterReady")["message"]


def test_a_service_without_measurements_has_no_rates() -> None:
    cache = reconciled().status["cache"]

    assert set(cache) == {"identity", "layout", "capacity", "window", "sampledEngines"}
    assert cache["sampledEngines"] == "0/2"


def test_the_first_look_at_a_fresh_service_sets_every_condition() -> None:
    fresh = reconciled(children={})

    parts = {"EnginesReady", "CacheReady", "RouterReady", "MetricsAvailable"}
    cache = {"VersionsCompatible", "CacheSharingVerified", "CacheEffective"}
    assert names(fresh) == {"Ready", *parts, *cache, "Reconciling"}
    assert of(fresh, "Ready")[0] == "False"
    assert of(fresh, "MetricsAvailable")[0] == "Unknown"


def test_ready_falls_in_the_write_that_observes_the_new_generation() -> None:
    """Whoever waits for Ready after `kubectl apply` must not be told of the old pods."""
    before = reconciled().status
    rolling = ALL_READY | {
        ENGINE: live(find(planned(**SPEC), "Deployment", ENGINE), generation=2, observedGeneration=1)
    }
    after = reconciled(before, rolling, generation=2)

    assert after.status["observedGeneration"] == 2
    assert of(after, "Ready") == ("False", "Progressing")
    assert of(after, "Reconciling") == ("True", "Progressing")
    assert all(condition["observedGeneration"] == 2 for condition in after.status["conditions"])


def test_a_change_of_the_number_of_engines_is_seen_before_the_deployment_follows() -> None:
    after = reconciled(reconciled().status, generation=2, engine={"replicas": 3})

    assert of(after, "Ready") == ("False", "Progressing")
    assert after.status["engines"]["summary"] == "2/3"


def test_without_a_number_in_the_spec_the_deployments_own_counts() -> None:
    assert reconciled(engine={}).status["engines"]["summary"] == "2/2"


def test_it_looks_again_soon_while_something_is_under_way_only() -> None:
    assert reconciled(children={}).requeue_after == pytest.approx(5)
    assert reconciled().requeue_after is None


def test_a_service_at_rest_says_the_same_for_ever() -> None:
    first = reconciled(measurement=measured(10))
    again = reconciled(first.status, measurement=measured(10), now=NOW + 30)

    assert again.status == first.status
    assert again.transitions == ()


def test_events_come_with_transitions_only() -> None:
    fresh = reconciled(children={})
    assert told(fresh) == [("Normal", "WaitingForCacheServer"), ("Normal", "Progressing")]

    up = reconciled(fresh.status)
    assert told(up) == [("Normal", "Available"), ("Normal", "Available")]
    assert told(reconciled(up.status)) == []


def test_trouble_and_its_end_are_events() -> None:
    up = reconciled()
    stuck = reconciled(up.status, rejections=(REFUSED,))
    assert told(stuck) == [("Warning", "ChildRejected")]
    assert of(stuck, "Stalled") == ("True", "ChildRejected")

    over = reconciled(stuck.status)
    assert told(over) == [("Normal", "Available"), ("Normal", "Recovered")]
    assert "Stalled" not in names(over)
    assert "ChildRejected is over" in over.transitions[-1].message


@pytest.mark.parametrize("kind", ["CacheEffective", "CacheSharingVerified", "VersionsCompatible"])
def test_a_verdict_on_the_cache_is_an_event_and_that_there_is_none_now_is_not(kind: str) -> None:
    def after(status: str) -> list[tuple[str, str]]:
        verdict = {"type": kind, "status": status, "reason": f"Because{status}", "message": "of this"}
        return [(found.kind, found.reason) for found in _transitions({}, {"conditions": [verdict]})]

    assert after("True") == [("Normal", "BecauseTrue")]
    assert after("False") == [("Warning", "BecauseFalse")]
    assert after("Unknown") == []


def test_a_lost_cache_server_is_a_warning_while_the_service_stays_ready() -> None:
    down = ALL_READY | {CACHE: live(find(planned(**SPEC), "StatefulSet", CACHE), ready=0)}
    found = reconciled(reconciled().status, down)

    assert of(found, "Ready") == ("True", "ServingWithoutCache")
    assert ("Warning", "CacheServerNotReady") in told(found)


def test_a_new_cache_identity_is_told() -> None:
    before = reconciled().status
    found = reconciled(before, model={"uri": "pvc://models/tiny", "revision": "2"})

    assert ("Normal", "CacheIdentityChanged") in told(found)
    assert before["cache"]["identity"] in found.transitions[-1].message
    assert "CacheIdentityChanged" not in [reason for _, reason in told(reconciled(before))]


def test_a_spec_that_can_not_be_read_keeps_what_is_known_and_says_where_it_is_wrong() -> None:
    before = reconciled(measurement=measured(10)).status
    found = reconciled(before, generation=2, engine={"replicas": -1})

    assert of(found, "Ready") == ("False", "InvalidSpec")
    assert of(found, "EnginesReady") == ("Unknown", "InvalidSpec")
    assert of(found, "Stalled") == ("True", "InvalidSpec")
    assert "spec.engine.replicas" in condition_of(found.status["conditions"], "Stalled")["message"]
    assert {key: found.status[key] for key in ("url", "engines", "cache")} == {
        key: before[key] for key in ("url", "engines", "cache")
    }
    assert told(found) == [("Warning", "InvalidSpec")]


def test_a_pause_is_a_condition_and_the_rest_is_still_observed() -> None:
    found = reconciled(annotations={"llmcache.dev/paused": "true"})

    assert of(found, "Paused") == ("True", "Paused")
    assert of(found, "Ready") == ("True", "Available")


def test_nothing_is_written_when_nothing_changed() -> None:
    status = reconciled().status

    assert not should_write(status, reconciled(status, now=NOW + 900).status, 0, NOW + 900, SETTINGS)


def test_measurements_are_written_at_most_once_a_minute() -> None:
    before = reconciled(measurement=measured(10)).status
    after = reconciled(before, measurement=measured(900)).status

    assert not should_write(before, after, NOW, NOW + 59, SETTINGS)
    assert should_write(before, after, NOW, NOW + 60, SETTINGS)


def test_a_message_alone_is_no_reason_to_hurry() -> None:
    before = reconciled(rejections=(REFUSED,)).status
    other = Rejection(REFUSED.ref, 422, "Invalid", "no, and a number: 7")
    after = reconciled(before, rejections=(other,)).status

    assert not should_write(before, after, NOW, NOW + 1, SETTINGS)
    assert should_write(before, after, NOW, NOW + 60, SETTINGS)


def test_everything_else_is_written_at_once() -> None:
    before = reconciled().status
    changes = (
        reconciled(before, generation=2),
        reconciled(before, rejections=(REFUSED,)),
        reconciled(before, engine={"replicas": 3}),
        reconciled(before, model={"uri": "pvc://models/other"}),
    )

    assert all(should_write(before, change.status, NOW, NOW, SETTINGS) for change in changes)
    assert should_write({"observedGeneration": -1}, before, 0, NOW, SETTINGS)


def writes(story: Story, rounds: int) -> int:
    """How often the status of a service is written that is looked at after every scrape."""
    status: Json = {"observedGeneration": -1}
    written, count = 0.0, 0
    for _ in range(rounds):
        story.play()
        found = reconciled(status, measurement=story.measurement, now=story.at).status
        if should_write(status, found, written, story.at, SETTINGS):
            status, written, count = found, story.at, count + 1
    return count


def test_steady_traffic_is_written_at_most_once_a_minute() -> None:
    story = Story(uneven=0.5)
    writes(story, 30)

    assert writes(story, 40) <= 10 + 1


def test_an_idle_service_is_not_written_to() -> None:
    story = Story()
    story.play(30)
    story.each(requests=0, written=0)
    story.play(30)

    assert writes(story, 40) == 1
