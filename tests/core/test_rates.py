"""What engines counted themselves: seconds for a token that they computed, and for one that they loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmcache_operator.core.effect.reload import Rates, rates
from llmcache_operator.core.values import EngineSample
from llmcache_operator.core.window import Measurement

SINCE, LATELY = 50.0, 205.0


def measured(*growth: dict[str, float]) -> Rates | None:
    """One engine that is scraped every 15 s from 100 s on, and what it counted from one scrape to the next."""
    sample = EngineSample("e", "u", 100.0, 0, 0, 0, started_at=1.0)
    found = Measurement().with_engine(sample)
    for grown in growth:
        now = {name: getattr(sample, name) + value for name, value in grown.items()}
        sample = replace(sample, at=sample.at + 15, **now)
        found = found.with_engine(sample)
    return rates(found, SINCE, LATELY)


STEADY = {"prefilled": 1000, "prefilling": 1.0, "loaded": 2000, "loading": 0.5}


def test_rates_are_seconds_by_tokens_and_loads_are_those_of_lately() -> None:
    found = measured(*[STEADY] * 6, *[STEADY | {"loading": 4.0}] * 2)

    assert found == Rates(pytest.approx(0.001), pytest.approx(0.002), 8000, 4000, pytest.approx(8 / 30))


def test_prefills_of_requests_that_all_end_at_once_count_in_full() -> None:
    """vLLM adds a prefill up when its request ends, and requests of one batch end together."""
    still = {"loaded": 2000, "loading": 0.5}

    found = measured(*[still] * 6, still | {"prefilled": 64_000, "prefilling": 64.0}, still)

    assert found is not None
    assert found.compute == pytest.approx(0.001)


def test_prefills_that_share_an_engine_count_no_more_time_than_there_was_beside_loads() -> None:
    crowded = {"prefilled": 1000, "prefilling": 100.0, "loaded": 1000, "loading": 5.0}

    found = measured(*[crowded] * 8)

    assert found is not None
    assert found.compute == pytest.approx(10 / 1000)


@pytest.mark.parametrize("less", [{"prefilled": 100}, {"loaded": 200}])
def test_little_says_nothing(less: dict[str, float]) -> None:
    assert measured(*[STEADY] * 8) is not None
    assert measured(*[STEADY | less] * 8) is None
