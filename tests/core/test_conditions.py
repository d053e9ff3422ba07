from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.core.conditions import Parts, Verdict, as_conditions, verdicts
from llmcache_operator.core.rollout import Rollout
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import Finding, Json, ScrapeFailure
from tests.core.samples import NOW, stamp

ENGINE, CACHE, ROUTER = Component.ENGINE, Component.CACHE_SERVER, Component.ROUTER
ALWAYS = {"Ready", "EnginesReady", "CacheReady", "RouterReady", "MetricsAvailable"}
CACHE_DONE = Rollout(1, 1, settled=True)
DONE, NONE_READY = Rollout(2, 2, settled=True), Rollout(2, 0, settled=True)
ROLLING, ZERO = Rollout(2, 1, settled=False), Rollout(0, 0, settled=True)
CRASH = Finding("engine", Reason.ENGINE_CRASHING, "it crashes")


def found(
    *,
    engine: Rollout = DONE,
    cache: Rollout = CACHE_DONE,
    router: Rollout = DONE,
    findings: tuple[Finding, ...] = (),
    sampled: int = 2,
    failures: tuple[ScrapeFailure, ...] = (),
) -> dict[str, Verdict]:
    parts = Parts({ENGINE: engine, CACHE: cache, ROUTER: router}, findings, sampled, failures)
    return {verdict.type.value: verdict for verdict in verdicts(parts)}


def says(verdict: Verdict) -> tuple[bool | None, Reason]:
    return verdict.status, verdict.reason


def test_a_service_that_is_all_there_is_ready_and_nothing_else() -> None:
    all_well = found()

    assert set(all_well) == ALWAYS
    assert all(verdict.status for verdict in all_well.values())
    assert says(all_well["Ready"]) == (True, Reason.AVAILABLE)
    assert all_well["Ready"].message == "2 of 2 engines ready, 2 of 2 routers ready"


def test_without_its_cache_server_a_service_still_serves_and_says_so() -> None:
    bare = found(cache=Rollout(1, 0, settled=True))

    assert says(bare["Ready"]) == (True, Reason.SERVING_WITHOUT_CACHE)
    assert "share nothing" in bare["Ready"].message
    assert says(bare["CacheReady"]) == (False, Reason.CACHE_SERVER_NOT_READY)
    assert bare["Reconciling"].status


@pytest.mark.parametrize(
    ("engine", "router"), [(NONE_READY, DONE), (ROLLING, DONE), (DONE, NONE_READY), (DONE, ROLLING)]
)
def test_without_engines_or_routers_as_specified_it_is_not_ready(engine: Rollout, router: Rollout) -> None:
    partly = found(engine=engine, router=router)

    assert partly["Ready"].status is False
    assert says(partly["Reconciling"]) == (True, Reason.PROGRESSING)
    assert "Stalled" not in partly


def test_engines_wait_for_the_cache_server_before_anything_is_wrong() -> None:
    starting = found(engine=Rollout(2, 0, settled=True), cache=Rollout(1, 0, settled=False))

    assert says(starting["EnginesReady"]) == (False, Reason.WAITING_FOR_CACHE_SERVER)
    assert says(starting["Ready"]) == (False, Reason.WAITING_FOR_CACHE_SERVER)
    assert says(starting["CacheReady"]) == (False, Reason.PROGRESSING)


def test_scaled_to_zero_is_what_was_asked_for() -> None:
    idle = found(engine=ZERO, sampled=0)

    assert says(idle["EnginesReady"]) == (True, Reason.SCALED_TO_ZERO)
    assert says(idle["Ready"]) == (True, Reason.SCALED_TO_ZERO)
    assert idle["MetricsAvailable"].status is None


def test_a_cause_names_the_part_that_it_stops() -> None:
    stuck = found(engine=NONE_READY, findings=(CRASH,))

    assert says(stuck["EnginesReady"]) == (False, Reason.ENGINE_CRASHING)
    assert says(stuck["Ready"]) == (False, Reason.ENGINE_CRASHING)
    assert stuck["EnginesReady"].message == "0 of 2 engines ready. it crashes"
    assert says(stuck["Stalled"]) == (True, Reason.ENGINE_CRASHING)
    assert "Reconciling" not in stuck


def test_the_cause_comes_before_its_effects() -> None:
    """Engines that wait for a crashing cache server are not the news."""
    cause = Finding("cache-server", Reason.OUT_OF_MEMORY, "the cache server needs more")
    stuck = found(engine=NONE_READY, cache=Rollout(1, 0, settled=True), findings=(cause,))

    assert says(stuck["EnginesReady"]) == (False, Reason.WAITING_FOR_CACHE_SERVER)
    assert says(stuck["CacheReady"]) == (False, Reason.OUT_OF_MEMORY)
    assert says(stuck["Ready"]) == (False, Reason.OUT_OF_MEMORY)


def test_several_causes_are_told_together() -> None:
    others = tuple(Finding("router", Reason.ROUTER_CRASHING, f"cause {n}") for n in range(5))
    stuck = found(engine=NONE_READY, findings=(CRASH, *others))

    assert stuck["Stalled"].message == "it crashes. Also: cause 0. Also: cause 1. Also: cause 2."


def test_what_runs_while_a_child_is_refused_is_not_what_was_specified() -> None:
    refused = Finding("router", Reason.NAME_TAKEN, "Service chat-router belongs to somebody else", rejected=True)
    kept = found(findings=(refused,))

    assert says(kept["Ready"]) == (False, Reason.NAME_TAKEN)
    assert kept["EnginesReady"].status
    assert says(kept["Stalled"]) == (True, Reason.NAME_TAKEN)


def test_a_crashing_spare_pod_stalls_but_does_not_stop_what_is_complete() -> None:
    serving = found(findings=(CRASH,))

    assert serving["Ready"].status
    assert serving["EnginesReady"].status
    assert serving["Stalled"].status


def test_metrics_are_available_once_every_ready_engine_is_measured() -> None:
    assert says(found()["MetricsAvailable"]) == (True, Reason.ALL_SAMPLED)
    assert says(found(sampled=1)["MetricsAvailable"]) == (None, Reason.NOT_SAMPLED_YET)


def test_a_failed_scrape_is_told_with_its_cause() -> None:
    failing = found(sampled=1, failures=(ScrapeFailure("chat-engine-0", NOW, "connection refused"),))

    assert says(failing["MetricsAvailable"]) == (False, Reason.SCRAPE_FAILED)
    assert failing["MetricsAvailable"].message == "1 of 2 engines measured. chat-engine-0: connection refused"
    assert failing["Ready"].status, "measuring is no part of serving"


rollouts = st.builds(Rollout, st.integers(0, 3), st.integers(0, 3), settled=st.booleans())
reasons = st.sampled_from(list(Reason))
finding_lists = st.lists(
    st.builds(
        Finding,
        st.sampled_from(["engine", "cache-server", "router", None]),
        reasons,
        st.just("why"),
        st.booleans(),
    ),
    max_size=4,
)


@given(rollouts, rollouts, rollouts, finding_lists.map(tuple), st.integers(0, 3))
def test_whatever_is_seen_the_conditions_agree_with_each_other(
    engine: Rollout, cache: Rollout, router: Rollout, findings: tuple[Finding, ...], sampled: int
) -> None:
    all_found = found(engine=engine, cache=cache, router=router, findings=findings, sampled=sampled)

    assert set(all_found) >= ALWAYS
    assert ("Stalled" in all_found) == bool(findings)
    assert not ({"Stalled", "Reconciling"} <= set(all_found))
    assert all(all_found[kind].status for kind in {"Stalled", "Reconciling"} & set(all_found))
    if all_found["Ready"].status:
        assert all_found["EnginesReady"].status
        assert all_found["RouterReady"].status
    else:
        assert {"Stalled", "Reconciling"} & set(all_found), "not ready, and nobody is at it"
    assert all(verdict.message for verdict in all_found.values())


def ready(status: bool | None, reason: Reason = Reason.AVAILABLE, message: str = "m") -> Verdict:  # noqa: FBT001
    return Verdict(ConditionType.READY, status=status, reason=reason, message=message)


def written(verdict: Verdict, previous: list[Json] = [], now: float = NOW) -> Json:  # noqa: B006 - never changed
    (condition,) = as_conditions([verdict], previous, 7, now)
    return condition


def test_a_condition_is_written_as_kubernetes_has_them() -> None:
    assert written(ready(None)) == {
        "type": "Ready",
        "status": "Unknown",
        "reason": "Available",
        "message": "m",
        "observedGeneration": 7,
        "lastTransitionTime": stamp(),
    }


def test_the_transition_time_moves_only_with_the_status() -> None:
    first = written(ready(True))

    later: dict[str, Any] = {"previous": [first], "now": NOW + 60}
    assert written(ready(True, Reason.SERVING_WITHOUT_CACHE, "n"), **later)["lastTransitionTime"] == stamp()
    assert written(ready(False), **later)["lastTransitionTime"] == stamp(-60)
    assert written(ready(None), **later)["lastTransitionTime"] == stamp(-60)


def test_a_message_fits_into_a_condition() -> None:
    assert len(written(ready(False, message="x" * 40_000))["message"]) == 32768
