"""Learning what tokens cost."""

import pytest

from llmcache_runtime.policy import Observation, Rates


def test_until_something_is_seen_the_prior_stands() -> None:
    assert Rates().prefill_rate == pytest.approx(8000)
    assert Rates().reload_ratio == pytest.approx(0.352)


@pytest.mark.parametrize(("prefill", "reload"), [(400.0, 1600.0), (8000.0, 10000.0), (50_000.0, 500_000.0)])
def test_rates_are_found_from_mixed_work(prefill: float, reload: float) -> None:
    rates = Rates()
    for i in range(200):
        computed, reloaded = 20_000.0 * (1 + i % 3), 30_000.0 * (1 + i % 4)
        rates.observe(Observation(computed, reloaded, 20, computed / prefill + reloaded / reload))

    assert rates.prefill_rate == pytest.approx(prefill, rel=0.1)
    assert rates.reload_ratio == pytest.approx(prefill / reload, rel=0.25)


def test_a_change_is_followed() -> None:
    rates = Rates()
    for speed in (8000.0, 1000.0):
        for i in range(300):
            computed = 10_000.0 * (1 + i % 3)
            rates.observe(Observation(computed, 0, 10, computed / speed))

    assert rates.prefill_rate == pytest.approx(1000, rel=0.15)


def test_the_ratio_never_exceeds_one_nor_do_costs_become_negative() -> None:
    rates = Rates()
    for i in range(100):
        rates.observe(Observation(10_000.0 * (i % 2), 10_000.0, 1, 10.0 * (1 - i % 2)))

    assert rates.reload_ratio == 1.0
    assert min(rates.seconds) > 0
