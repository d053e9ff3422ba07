from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.core.measured import Coverage, cache_status, coverage
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import CacheSample, EngineSample, Observed, ScrapeFailure
from llmcache_operator.core.window import Measurement
from tests.core.samples import NOW, SETTINGS, pod, resource, stamp, target

ENGINE, SERVER = pod(Component.ENGINE), pod(Component.CACHE_SERVER)
NAME, UID = ENGINE["metadata"]["name"], ENGINE["metadata"]["uid"]


def sample(ago: float, computed: int = 0, engine: int = 0, server: int = 0, uid: str = UID) -> EngineSample:
    return EngineSample(NAME, uid, NOW - ago, computed, engine, server, started_at=1.0)


def measured(*samples: EngineSample, cache: CacheSample | None = None) -> Measurement:
    found = Measurement() if cache is None else Measurement().with_cache(cache, "chat-cache-0")
    for one in samples:
        found = found.with_engine(one)
    return found


def covered(measurement: Measurement, *pods: Any) -> Coverage:
    return coverage(target(), Observed(resource(), pods=pods), measurement, NOW)


def status(measurement: Measurement, sampled: int = 1, ready: int = 1) -> dict[str, Any]:
    return cache_status(target(), ready, Coverage(sampled, ()), measurement, NOW)


def test_every_ready_engine_with_a_fresh_sample_is_covered() -> None:
    assert covered(measured(sample(5), cache=CacheSample(NOW - 5, 0.1, 1, 0)), ENGINE, SERVER) == Coverage(1, ())


def test_one_lost_scrape_is_noise_and_three_are_a_failure() -> None:
    assert covered(measured(sample(40)), ENGINE) == Coverage(1, ())

    found = covered(measured(sample(50)).with_failure(ScrapeFailure(NAME, NOW, "connection refused")), ENGINE)
    assert found.sampled == 0
    assert [failure.why for failure in found.failures] == ["connection refused"]


def test_a_pod_that_became_ready_a_moment_ago_is_not_missed_yet() -> None:
    young = pod(Component.ENGINE)
    young["status"]["conditions"][0]["lastTransitionTime"] = stamp(20)

    assert covered(Measurement(), young) == Coverage(0, ())


def test_pods_that_do_not_answer_or_are_on_their_way_out_are_not_missed() -> None:
    leaving = pod(Component.ENGINE)
    leaving["metadata"]["deletionTimestamp"] = stamp()

    assert covered(Measurement(), pod(Component.ENGINE, ready=False), leaving) == Coverage(0, ())


def test_a_silent_cache_server_is_a_failure_of_its_pod() -> None:
    found = covered(measured(sample(5)), ENGINE, SERVER)

    assert found.sampled == 1
    assert [failure.pod for failure in found.failures] == ["chat-cache-0"]
    assert found.failures[0].why == "no scrape has come back yet"


def test_routers_are_not_measured() -> None:
    assert covered(Measurement(), pod(Component.ROUTER)) == Coverage(0, ())


def test_what_can_not_be_known_is_absent_never_zero() -> None:
    assert set(status(Measurement(), 0)) == {"identity", "layout", "capacity", "window", "sampledEngines"}
    assert "hitRatePercent" not in status(measured(sample(50, 10), sample(5, 10)))


def test_rates_are_of_the_window_and_reuse_is_of_the_engines_lives() -> None:
    found = status(measured(sample(100, 1000, 2000, 3000), sample(5, 1029, 2058, 3013)))

    assert found["hitRatePercent"] == 71
    assert found["tiers"] == {"engine": 58, "server": 13}
    assert found["tokensReused"] == 2058 + 3013
    assert found["sampledEngines"] == "1/1"


def test_a_measured_zero_is_a_zero() -> None:
    found = status(measured(sample(100), sample(5, 100)))

    assert found["hitRatePercent"] == 0
    assert found["tiers"] == {"engine": 0, "server": 0}


@pytest.mark.parametrize(("ratio", "percent"), [(0.0, 0), (0.404, 40), (1.0, 100), (1.07, 100)])
def test_used_memory_is_a_percentage(ratio: float, percent: int) -> None:
    assert status(measured(cache=CacheSample(NOW, ratio, 1, 0)))["usedPercent"] == percent


@pytest.mark.parametrize(("seconds", "text"), [(300, "5m"), (60, "1m"), (90, "90s")])
def test_the_window_is_told_in_words(seconds: int, text: str) -> None:
    wide = target(replace(SETTINGS, window=seconds))

    assert cache_status(wide, 1, Coverage(0, ()), Measurement(), NOW)["window"] == text


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_percentages_are_between_0_and_100_and_the_tiers_add_up(computed: int, engine: int, server: int) -> None:
    found = status(measured(sample(100), sample(5, computed, engine, server)))
    if computed + engine + server == 0:
        assert "tiers" not in found
        return

    tiers = found["tiers"]
    assert 0 <= found["hitRatePercent"] <= 100
    assert min(tiers.values()) >= 0
    assert tiers["engine"] + tiers["server"] == found["hitRatePercent"]
    assert tiers["server"] == 0 or server > 0
