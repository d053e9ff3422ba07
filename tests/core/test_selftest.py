"""What CacheSharingVerified says, and when the self-test is due."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.outcome import outcome, should_write
from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.selftest import Standing, recalled, standing
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import EngineSample, Json, Observed, SelfTest, SelfTestResult
from llmcache_operator.core.window import Measurement
from tests.core.samples import NOW, SETTINGS, UID, cluster, condition_of, pod, resource, stamp, target

ENGINE, SERVER = Component.ENGINE, Component.CACHE_SERVER
A, B, CACHE = pod(ENGINE, "chat-engine-a"), pod(ENGINE, "chat-engine-b"), pod(SERVER)
NOTHING = Measurement()
KNOWN = (Reason.VERIFIED, Reason.NOTHING_SHARED, Reason.WRONG_KV, Reason.PROBE_FAILED)
FAILED = KNOWN[1:]


def stands(
    *pods: Json,
    wanted: int | None = 2,
    measurement: Measurement = NOTHING,
    status: Json | None = None,
    now: float = NOW,
    **spec: Any,
) -> Standing:
    return standing(target(**spec), Observed(resource(status=status), pods=pods), wanted, measurement, now)


def says(found: Standing) -> tuple[bool | None, Reason]:
    return found.verdict.status, found.verdict.reason


def due(found: Standing) -> SelfTest:
    assert found.due is not None
    return found.due


FLEET = due(stands(A, B, CACHE)).fleet


def result(reason: Reason = Reason.VERIFIED, *, ago: float = 0.0, **more: Any) -> SelfTestResult:
    failures = 0 if reason is Reason.VERIFIED else 1
    return replace(SelfTestResult(NOW - ago, FLEET, reason, "told", failures), **more)


def known(reason: Reason = Reason.VERIFIED, *, ago: float = 0.0, **more: Any) -> Measurement:
    return NOTHING.with_self_test(result(reason, ago=ago, **more))


def loaded(name: str, ago: float = 5.0, *, tokens: tuple[int, int, int] = (0, 0, 0), **more: int) -> EngineSample:
    return EngineSample(name, f"uid-{name}", NOW - ago, *tokens, started_at=1.0, **more)


def test_a_fleet_that_was_never_tried_is_tried_at_once() -> None:
    found = stands(A, B, CACHE)

    assert says(found) == (None, Reason.PENDING)
    test = due(found)
    assert (test.key.name, test.uid, test.model) == ("chat", UID, "chat")
    assert (test.engines, test.servers) == ((A, B), (CACHE,))
    assert (test.chunk, test.tail, test.last) == (256, 33, None)


@pytest.mark.parametrize(
    ("pods", "wanted", "spec", "reason"),
    [
        ((A, B, CACHE), 2, {"cache": {"selfTest": "Disabled"}}, Reason.DISABLED),
        ((A, B), 2, {"cache": {"topology": "PerEngine"}}, Reason.DISABLED),
        ((A, B, CACHE), None, {}, Reason.PENDING),
        ((A, CACHE), 2, {}, Reason.PENDING),
        ((A, pod(ENGINE, "chat-engine-b", ready=False), CACHE), 2, {}, Reason.PENDING),
        ((CACHE,), 0, {}, Reason.PENDING),
        ((A, CACHE), 1, {}, Reason.ONE_ENGINE),
        ((A, B, CACHE), 2, {"engine": {"maxModelLen": 257}}, Reason.PROBE_FAILED),
    ],
    ids=["disabled", "nothing to share", "rollout", "not seen yet", "not ready", "no engines", "one engine", "no room"],
)
def test_why_nothing_is_tried_is_said(
    pods: tuple[Json, ...], wanted: int | None, spec: dict[str, Any], reason: Reason
) -> None:
    found = stands(*pods, wanted=wanted, measurement=known(), **spec)

    assert says(found) == (None, reason)
    assert found.due is None
    assert found.verdict.message


def test_a_pod_on_its_way_out_takes_no_part() -> None:
    leaving = pod(ENGINE, "chat-engine-b")
    leaving["metadata"]["deletionTimestamp"] = stamp()

    assert says(stands(A, leaving, CACHE, wanted=1)) == (None, Reason.ONE_ENGINE)


def test_a_pod_that_carries_the_labels_takes_part_whoever_made_it() -> None:
    stranger = pod(ENGINE, "debug")

    assert due(stands(A, B, stranger, CACHE)).engines == (A, B, stranger)
    assert due(stands(A, stranger, CACHE, wanted=1)).engines == (A, stranger)


@pytest.mark.parametrize(("max_model_len", "tail"), [(None, 33), (8192, 33), (290, 33), (289, 32), (258, 1)])
def test_a_prompt_fits_into_the_model(max_model_len: int | None, tail: int) -> None:
    engine = {} if max_model_len is None else {"maxModelLen": max_model_len}

    assert due(stands(A, B, CACHE, engine=engine)).tail == tail


@pytest.mark.parametrize("reason", KNOWN)
def test_a_result_is_told_as_long_as_the_pods_are_the_same(reason: Reason) -> None:
    expected = {Reason.VERIFIED: True, Reason.PROBE_FAILED: None}.get(reason, False)
    found = stands(A, B, CACHE, measurement=known(reason))

    assert says(found) == (expected, reason)
    assert found.verdict.message == "told"
    assert found.due is None
    assert found.status == {"selfTest": {"at": stamp(), "fleet": FLEET}}


def restarted(obj: Json, name: str) -> Json:
    return obj | {"status": obj["status"] | {name: [{"name": "engine", "restartCount": 1}]}}


@pytest.mark.parametrize(
    "pods",
    {
        "an engine was replaced": (A, pod(ENGINE, "chat-engine-c"), CACHE),
        "an engine joined": (A, B, pod(ENGINE, "chat-engine-c"), CACHE),
        "an engine restarted in place": (A, restarted(B, "containerStatuses"), CACHE),
        "a cache server beside an engine restarted": (A, restarted(B, "initContainerStatuses"), CACHE),
        "the cache server was replaced": (A, B, pod(SERVER, "chat-cache-new")),
        "the cache server restarted in place": (A, B, restarted(CACHE, "containerStatuses")),
    }.values(),
)
def test_other_pods_are_tried_at_once(pods: tuple[Json, ...]) -> None:
    found = stands(*pods, measurement=known())

    assert says(found) == (None, Reason.PENDING)
    assert due(found).last is None


def test_another_identity_is_tried_at_once() -> None:
    assert due(stands(A, B, CACHE, measurement=known(), model={"uri": "pvc://models/other"})).fleet != FLEET


def test_what_does_not_change_how_pods_run_changes_nothing() -> None:
    moved = A | {"status": A["status"] | {"startTime": stamp()}}

    assert stands(B, moved, CACHE, measurement=known()).due is None


@given(st.floats(0, 10 * 21600))
def test_a_verified_fleet_is_tried_again_after_the_interval_give_or_take_a_tenth(ago: float) -> None:
    found = stands(A, B, CACHE, measurement=known(ago=ago))

    assert says(found) == (True, Reason.VERIFIED)
    if ago < 0.9 * 21600:
        assert found.due is None
    if ago > 1.1 * 21600:
        assert due(found).last == result(ago=ago)


@pytest.mark.parametrize("reason", FAILED)
@pytest.mark.parametrize(("failures", "wait"), [(1, 15), (2, 30), (3, 30), (50, 30)])
def test_a_failed_test_is_repeated_soon_enough_to_see_a_cure_within_a_minute(
    reason: Reason, failures: int, wait: float
) -> None:
    assert stands(A, B, CACHE, measurement=known(reason, ago=wait - 1, failures=failures)).due is None
    assert stands(A, B, CACHE, measurement=known(reason, ago=wait, failures=failures)).due
    assert wait + SETTINGS.scrape_interval + 10 < 60


@pytest.mark.parametrize(("failures", "wait"), [(1, 15), (2, 30), (5, 240), (9, 3600), (999, 3600)])
def test_a_test_that_may_have_ended_an_engine_waits_ever_longer_for_the_next_fleet(failures: int, wait: float) -> None:
    died = known(Reason.PROBE_FAILED, ago=wait - 1, failures=failures, fleet="0")
    found = stands(A, B, CACHE, measurement=died)
    assert says(found) == (None, Reason.PENDING)
    assert f"failed {failures} times in a row: told" in found.verdict.message
    assert found.due is None

    test = due(stands(A, B, CACHE, measurement=known(Reason.PROBE_FAILED, ago=wait, failures=failures, fleet="0")))
    assert (test.failures, test.last) == (failures, None)


@pytest.mark.parametrize("reason", [Reason.NOTHING_SHARED, Reason.WRONG_KV])
def test_other_failures_say_nothing_about_the_next_fleet(reason: Reason) -> None:
    assert due(stands(A, B, CACHE, measurement=known(reason, failures=9, fleet="0"))).failures == 0


def test_engines_that_were_left_out_are_tried_after_some_minutes() -> None:
    assert stands(A, B, CACHE, measurement=known(ago=299, complete=False)).due is None
    assert stands(A, B, CACHE, measurement=known(ago=300, complete=False)).due


@pytest.mark.parametrize("load", [{"waiting": 1}, {"running": 64}])
def test_busy_engines_are_left_alone(load: dict[str, int]) -> None:
    c = pod(ENGINE, "chat-engine-c")
    one_busy = NOTHING.with_engine(loaded("chat-engine-b", **load))
    test = due(stands(A, B, c, CACHE, measurement=one_busy))
    assert (test.engines, test.left_out) == ((A, c), 1)

    found = stands(A, B, CACHE, measurement=one_busy)
    assert says(found) == (None, Reason.SATURATED)
    assert found.due is None


@pytest.mark.parametrize("args", [["--max-num-seqs", "8"], ["--max-num-seqs=8"]])
def test_half_of_what_an_engine_takes_is_busy(args: list[str]) -> None:
    assert due(stands(A, B, CACHE, engine={"args": args})).busy == 4


def test_an_old_result_stands_while_the_engines_are_busy() -> None:
    measurement = known(ago=1e6).with_engine(loaded("chat-engine-b", waiting=3))
    found = stands(A, B, CACHE, measurement=measurement)

    assert says(found) == (True, Reason.VERIFIED)
    assert found.due is None


def test_a_test_that_found_all_busy_is_repeated_soon() -> None:
    measurement = known(Reason.SATURATED, ago=15)

    assert says(stands(A, B, CACHE, measurement=measurement)) == (None, Reason.SATURATED)
    assert stands(A, B, CACHE, measurement=measurement).due
    assert stands(A, B, CACHE, measurement=measurement).status == {}


def dried_up(recent_hits: int = 0, recent: int = 2000, earlier_hits: int = 5000, ago: float = 130) -> Measurement:
    before, between = (0, 0, 0), (1000, 0, earlier_hits)
    last = (1000 + recent, 0, earlier_hits + recent_hits)
    found = known(ago=ago)
    for at, tokens in ((200.0, before), (100.0, between), (1.0, last)):
        found = found.with_engine(loaded("chat-engine-a", at, tokens=tokens))
    return found


def test_a_fleet_that_stops_taking_from_the_server_is_suspect() -> None:
    assert stands(A, B, CACHE, measurement=dried_up()).due


@pytest.mark.parametrize(
    "fine",
    {
        "it still takes": dried_up(recent_hits=256),
        "it never took": dried_up(earlier_hits=0),
        "no prompts come": dried_up(recent=0),
        "it was tried a moment ago": dried_up(ago=60),
    }.values(),
)
def test_a_fleet_for_which_that_is_normal_is_not(fine: Measurement) -> None:
    assert stands(A, B, CACHE, measurement=fine).due is None


def told(measurement: Measurement, previous: Json | None = None, now: float = NOW) -> Json:
    """The status that a reconcile would write."""
    obj = resource(status=previous, engine={"replicas": 2})
    observed = Observed(obj, tuple(cluster(engine={"replicas": 2}).values()), (A, B, CACHE))
    return outcome(decide(observed, SETTINGS), observed, (), measurement, now).status


@pytest.mark.parametrize("reason", KNOWN)
def test_the_status_remembers_a_result_for_the_next_process(reason: Reason) -> None:
    status = told(known(reason, ago=7))

    again = recalled({"status": status})
    assert again == result(reason, ago=7)
    assert condition_of(told(NOTHING, status)["conditions"], "CacheSharingVerified")["reason"] == reason.value


@pytest.mark.parametrize("reason", FAILED)
def test_a_failure_that_is_found_again_is_no_write(reason: Reason) -> None:
    first = told(known(reason))
    later = told(known(reason, ago=-3600, failures=99), first, now=NOW + 3601)

    assert later == first
    assert not should_write(first, later, 0.0, NOW + 3601, SETTINGS)


def test_a_success_that_is_found_again_moves_its_time() -> None:
    first = told(known())
    later = told(known(ago=-21600), first, now=NOW + 21600)

    assert later["cache"]["selfTest"]["at"] == stamp(-21600)
    assert later["conditions"] == first["conditions"]


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"cache": None, "conditions": None},
        {"cache": {"selfTest": {"at": stamp(), "fleet": FLEET}}},
        {"conditions": [{"type": "CacheSharingVerified", "reason": "Verified", "message": "m"}]},
        {
            "conditions": [{"type": "CacheSharingVerified", "reason": "Pending", "message": "m"}],
            "cache": {"selfTest": {"at": stamp(), "fleet": FLEET}},
        },
    ],
)
def test_a_status_without_a_result_recalls_none(status: Json) -> None:
    assert recalled({"status": status}) is None


def test_a_due_test_comes_out_of_a_reconcile_and_an_unreadable_spec_has_none() -> None:
    obj = resource(engine={"replicas": 2})
    observed = Observed(obj, tuple(cluster(engine={"replicas": 2}).values()), (A, B, CACHE))
    assert outcome(decide(observed, SETTINGS), observed, (), NOTHING, NOW).self_test

    broken = replace(observed, resource=obj | {"spec": {}})
    assert outcome(decide(broken, SETTINGS), broken, (), NOTHING, NOW).self_test is None


def test_wrong_kv_does_not_stop_the_service_but_is_a_warning() -> None:
    before = told(known())
    obj = resource(status=before, engine={"replicas": 2})
    observed = Observed(obj, tuple(cluster(engine={"replicas": 2}).values()), (A, B, CACHE))
    found = outcome(decide(observed, SETTINGS), observed, (), known(Reason.WRONG_KV), NOW)

    assert condition_of(found.status["conditions"], "Ready")["status"] == "True"
    assert [(event.kind, event.reason) for event in found.transitions] == [("Warning", "WrongKV")]
