"""What the cache saved: tokens over the lives of engines, and seconds from below."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.core.effect.reload import costs
from llmcache_operator.core.effect.saved import saved
from llmcache_operator.core.values import EngineSample
from llmcache_operator.core.window import Measurement, OwnRequest, Tokens


def sample(at: float, computed: int, own: int, server: int, busy: float, *, served: int = 0) -> EngineSample:
    return EngineSample("e", "u", at, computed, own, server, started_at=1.0, busy=busy, served=served)


def measured(*samples: EngineSample) -> Measurement:
    found = Measurement()
    for one in samples:
        found = found.with_engine(one)
    return found


def varied(compute: float, reload: float, each: float = 0.05, stretches: int = 10) -> Measurement:
    """One engine, whose requests differ from stretch to stretch."""
    found = [sample(100.0, 0, 0, 0, 0.0)]
    for number in range(stretches):
        last, did, took, came = found[-1], 1000 + 137 * number, 4000 - 311 * number, 2 + number * number % 7
        found.append(
            replace(
                last,
                at=last.at + 15,
                computed=last.computed + did,
                server_hits=last.server_hits + took,
                served=last.served + came,
                busy=last.busy + did * compute + took * reload + came * each,
            )
        )
    return measured(*found)


def test_nothing_is_known_without_engines() -> None:
    assert saved(Measurement(), 0.0) == {}


def test_tokens_are_those_of_the_lives_and_seconds_need_work_in_the_window() -> None:
    assert saved(measured(sample(100.0, 500, 2000, 1000, 5.0)), 50.0) == {"promptTokens": 3000}
    idle = measured(sample(100.0, 500, 2000, 1000, 5.0), sample(115.0, 500, 2000, 1000, 5.0))
    assert saved(idle, 50.0) == {"promptTokens": 3000}


def test_a_self_test_alone_is_nothing_to_estimate_from() -> None:
    found = measured(sample(100.0, 500, 2000, 1000, 5.0), sample(115.0, 756, 2256, 1000, 6.0))

    assert saved(found.with_own(OwnRequest("u", 105.0, 106.0, Tokens(256, 256, 0))), 50.0) == {"promptTokens": 3256}
    assert "engineSeconds" in saved(found, 50.0)


def test_tokens_from_the_server_save_no_time_as_long_as_their_cost_is_not_known() -> None:
    found = measured(sample(100.0, 0, 0, 0, 0.0), sample(115.0, 1000, 4000, 1000, 10.0))

    assert saved(found, 50.0) == {"promptTokens": 5000, "engineSeconds": round(10 / 2000 * 4000)}


def test_an_engine_counts_no_more_time_than_has_passed() -> None:
    found = measured(sample(100.0, 0, 0, 0, 0.0), sample(115.0, 1000, 1000, 0, 600.0))

    assert saved(found, 50.0)["engineSeconds"] == 15


def test_what_fetching_costs_is_taken_off() -> None:
    cheap, dear = varied(0.002, 0.0002), varied(0.002, 0.004)

    assert saved(cheap, 50.0)["engineSeconds"] > 30
    assert saved(dear, 50.0)["engineSeconds"] == 0


@given(st.floats(0.0001, 0.01), st.floats(0.0001, 0.01), st.floats(0.0, 1.0))
def test_costs_are_told_apart_where_requests_differ(compute: float, reload: float, each: float) -> None:
    found = costs(varied(compute, reload, each), 50.0)

    assert found is not None
    assert found.compute == pytest.approx(compute, rel=0.01, abs=1e-6)
    assert found.reload == pytest.approx(reload, rel=0.01, abs=1e-6)


def test_costs_are_unknown_where_requests_are_alike_or_few_or_queued() -> None:
    alike = [sample(100.0 + 15 * n, 1000 * n, 0, 2000 * n, 5.0 * n, served=4 * n) for n in range(12)]
    assert costs(measured(*alike), 50.0) is None
    assert costs(varied(0.002, 0.001, stretches=4), 50.0) is None

    queued = varied(0.002, 0.001)
    crowded = measured(*(replace(one, queued=3) for one in queued.engines["u"]))
    assert costs(crowded, 50.0) is None
