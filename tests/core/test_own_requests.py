"""The operator's own requests are no traffic: the rates in the status are about what users sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.core.values import EngineSample
from llmcache_operator.core.window import Measurement, OwnRequest, Tokens

WINDOW = 300.0
TEST = Tokens(computed=33, server_hits=256)


def sample(at: float, total: Tokens, born: float = 0.0) -> EngineSample:
    counts = (total.computed, total.engine_hits, total.server_hits)
    return EngineSample("a", "uid-a", at, *counts, started_at=born)


def own(since: float, until: float, tokens: Tokens = TEST, pod: str = "a") -> OwnRequest:
    return OwnRequest(f"uid-{pod}", since, until, tokens)


def measured(*samples: EngineSample) -> Measurement:
    found = Measurement()
    for one in samples:
        found = found.with_engine(one)
    return found


def test_an_idle_service_that_was_tested_stays_idle() -> None:
    found = measured(sample(700, Tokens()), sample(900, TEST)).with_own(own(800, 801))

    assert found.tokens(1000, WINDOW) == Tokens()


def test_what_users_sent_meanwhile_counts() -> None:
    users = Tokens(100, 50, 10)
    found = measured(sample(700, Tokens()), sample(900, TEST + users)).with_own(own(800, 801))

    assert found.tokens(1000, WINDOW) == users


def test_requests_to_other_engines_and_outside_of_what_was_counted_take_nothing_away() -> None:
    users = Tokens(100, 50, 300)
    found = measured(sample(750, Tokens()), sample(900, users))
    for request in (own(800, 801, pod="b"), own(740, 750), own(901, 902)):
        found = found.with_own(request)

    assert found.tokens(1000, WINDOW) == users


def test_an_engine_born_in_the_window_was_tested_in_it() -> None:
    found = measured(sample(900, TEST, born=800.0)).with_own(own(850, 851))

    assert found.tokens(1000, WINDOW) == Tokens()


def test_while_a_request_runs_whatever_it_has_counted_is_hidden_and_the_last_word_replaces_that() -> None:
    most = Tokens(computed=289, server_hits=289)
    running = measured(sample(700, Tokens()), sample(900, TEST)).with_own(own(899, 930, most))
    assert running.tokens(1000, WINDOW) == Tokens()

    over = running.with_own(own(899, 901))
    assert over.own == (own(899, 901),)


def test_own_requests_are_forgotten_long_after_the_window() -> None:
    found = measured(sample(700, Tokens()), sample(900, TEST)).with_own(own(800, 801))

    assert found.only({"a"}, 1000, WINDOW).own == (own(800, 801),)
    assert found.only({"a"}, 2000, WINDOW).own == ()


counts = st.builds(Tokens, st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))


@given(st.lists(st.tuples(counts, st.booleans()), min_size=1, max_size=12), st.integers(20, 200))
def test_with_own_requests_between_the_scrapes_only_the_traffic_is_left(
    parts: list[tuple[Tokens, bool]], window: int
) -> None:
    with_tests = without = Measurement()
    seen, users = Tokens(), Tokens()
    for index, (traffic, tested) in enumerate(parts):
        at = 1000.0 + 10 * index
        if tested:
            with_tests = with_tests.with_own(own(at - 6, at - 5))
            seen += TEST
        seen, users = seen + traffic, users + traffic
        with_tests = with_tests.with_engine(sample(at, seen)).only({"a"}, at, window)
        without = without.with_engine(sample(at, users)).only({"a"}, at, window)

        assert with_tests.tokens(at, window) == without.tokens(at, window)
