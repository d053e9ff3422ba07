from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.core.values import CacheSample, EngineSample, ScrapeFailure
from llmcache_operator.core.window import Measurement, Tokens

WINDOW = 300.0


def sample(
    at: float, computed: int = 0, engine: int = 0, server: int = 0, *, pod: str = "a", born: float | None = 0.0
) -> EngineSample:
    return EngineSample(pod, f"uid-{pod}", at, computed, engine, server, started_at=born, model_path="/m")


def measured(*samples: EngineSample) -> Measurement:
    measurement = Measurement()
    for one in samples:
        measurement = measurement.with_engine(one)
    return measurement


def test_nothing_is_known_before_the_first_sample() -> None:
    assert Measurement().tokens(1000, WINDOW) == Tokens()
    assert Measurement().latest(["uid-a"]) == []


def test_an_idle_engine_took_in_no_tokens() -> None:
    assert measured(sample(700, 500), sample(800, 500), sample(900, 500)).tokens(1000, WINDOW).total == 0


def test_the_first_sample_of_an_old_engine_is_only_where_counting_begins() -> None:
    assert measured(sample(990, 5000, born=10.0)).tokens(1000, WINDOW) == Tokens()
    assert measured(sample(990, 5000, born=None)).tokens(1000, WINDOW) == Tokens()


def test_all_that_an_engine_born_in_the_window_ever_took_in_counts() -> None:
    assert measured(sample(990, 50, 20, 30, born=900.0)).tokens(1000, WINDOW) == Tokens(50, 20, 30)


def test_growth_counts_by_tier() -> None:
    assert measured(sample(800, 100, 10, 1), sample(900, 150, 30, 6)).tokens(1000, WINDOW) == Tokens(50, 20, 5)


def test_counting_begins_at_the_newest_sample_from_before_the_window() -> None:
    found = measured(sample(500, 1), sample(690, 100), sample(710, 130), sample(990, 150))

    assert found.tokens(1000, WINDOW) == Tokens(computed=50)
    assert found.only({"a"}, 1000, WINDOW).tokens(1000, WINDOW) == Tokens(computed=50)


def test_a_restart_loses_nothing_that_was_seen() -> None:
    found = measured(sample(800, 100), sample(850, 180), sample(900, 30, born=860.0), sample(950, 50, born=860.0))

    assert found.tokens(1000, WINDOW) == Tokens(computed=80 + 50)


def test_counters_that_fell_mean_a_restart_where_engines_do_not_tell_their_birth() -> None:
    found = measured(sample(800, 100, 70, born=None), sample(900, 120, 5, born=None))

    assert found.tokens(1000, WINDOW) == Tokens(120, 5, 0)


def test_a_restart_is_seen_even_when_the_new_counters_are_higher() -> None:
    assert measured(sample(800, 100), sample(900, 150, born=850.0)).tokens(1000, WINDOW) == Tokens(computed=150)


def test_pods_that_left_count_until_they_are_out_of_the_window() -> None:
    found = measured(
        sample(800, 0, pod="old"), sample(850, 40, pod="old"), sample(900, pod="new"), sample(990, 2, pod="new")
    )

    assert found.only({"new"}, 1000, WINDOW).tokens(1000, WINDOW) == Tokens(computed=42)
    later = found.only({"new"}, 1200, WINDOW)
    assert set(later.engines) == {"uid-new"}
    assert later.tokens(1200, WINDOW) == Tokens(computed=2)


def test_two_pods_of_one_name_are_two_pods() -> None:
    first, second = sample(800, 100), replace(sample(900, 30, born=880.0), pod_uid="uid-b")

    assert measured(first, second).tokens(1000, WINDOW) == Tokens(computed=30)


def test_an_engine_that_falls_silent_for_a_window_starts_anew() -> None:
    silent = measured(sample(100, 10)).only({"a"}, 1000, WINDOW)

    assert silent.engines == {}
    assert silent.with_engine(sample(1000, 500)).tokens(1000, WINDOW) == Tokens()


def test_a_sample_ends_the_failure_of_its_pod_only() -> None:
    failing = Measurement().with_failure(ScrapeFailure("a", 1, "x")).with_failure(ScrapeFailure("b", 1, "y"))

    assert set(failing.with_engine(sample(2)).failures) == {"b"}
    assert set(failing.with_cache(CacheSample(2, 0.5, 1, 0), "b").failures) == {"a"}
    assert set(failing.only({"b"}, 10, WINDOW).failures) == {"b"}


def test_a_cache_sample_from_before_the_window_is_forgotten() -> None:
    found = Measurement().with_cache(CacheSample(500, 0.5, 1, 0))

    assert found.only((), 600, WINDOW).cache is not None
    assert found.only((), 1000, WINDOW).cache is None


def test_a_model_path_stays_known_until_the_engine_restarts() -> None:
    learned = measured(sample(800, 1)).with_engine(replace(sample(900, 2), model_path=None))
    assert learned.latest(["uid-a"])[0].model_path == "/m"

    restarted = learned.with_engine(replace(sample(950, 0, born=940.0), model_path=None))
    assert restarted.latest(["uid-a"])[0].model_path is None


def test_adding_a_sample_leaves_the_measurement_as_it_was() -> None:
    before = measured(sample(800, 1))
    before.with_engine(sample(900, 9))

    assert before == measured(sample(800, 1))


growths = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
steps = st.lists(st.tuples(growths, st.booleans()), min_size=2, max_size=20)


def history(parts: list[tuple[tuple[int, int, int], bool]]) -> tuple[list[EngineSample], list[Tokens]]:
    """Samples 10 s apart, and what was really taken in before each; an engine restarts right after a sample or not."""
    samples: list[EngineSample] = []
    born, counted, truth = 0.0, Tokens(), []
    for index, (growth, restarts) in enumerate(parts):
        at = 10.0 * (index + 1)
        if restarts and samples:
            born, counted = at - 5, Tokens()
        counted += Tokens(*growth)
        samples.append(sample(at, counted.computed, counted.engine_hits, counted.server_hits, born=born))
        truth.append(Tokens(*growth))
    return samples, truth


@given(steps)
def test_what_is_counted_is_what_was_taken_in(parts: list[tuple[tuple[int, int, int], bool]]) -> None:
    samples, truth = history(parts)
    end = samples[-1].at

    # The window opens between the first and the second sample: the first is the baseline.
    assert measured(*samples).tokens(end, end - samples[0].at - 1) == sum(truth[1:], Tokens())


@given(steps, st.data())
def test_any_split_of_the_samples_adds_up_to_the_whole(
    parts: list[tuple[tuple[int, int, int], bool]], data: st.DataObject
) -> None:
    samples, _ = history(parts)
    at = data.draw(st.integers(0, len(samples) - 1))
    first, last = samples[0].at, samples[-1].at
    whole = measured(*samples).tokens(last, last - first - 1)

    before = measured(*samples[: at + 1]).tokens(samples[at].at, samples[at].at - first - 1) if at else Tokens()
    after = measured(*samples[at:]).tokens(last, last - samples[at].at - 1) if at < len(samples) - 1 else Tokens()

    assert before + after == whole


@given(steps)
def test_forgetting_what_is_out_of_the_window_changes_no_rate(parts: list[tuple[tuple[int, int, int], bool]]) -> None:
    samples, _ = history(parts)
    kept = full = Measurement()
    for one in samples:
        full = full.with_engine(one)
        kept = kept.with_engine(one).only({"a"}, one.at, 45)

        assert kept.tokens(one.at, 45) == full.tokens(one.at, 45)
    assert all(len(held) <= 6 for held in kept.engines.values())


@given(steps)
def test_no_count_is_ever_negative(parts: list[tuple[tuple[int, int, int], bool]]) -> None:
    samples, _ = history(parts)
    ageless = [replace(one, started_at=None) for one in samples]
    found = measured(*ageless).tokens(ageless[-1].at, 1000)

    assert min(found.computed, found.engine_hits, found.server_hits) >= 0
    assert found.total == found.computed + found.hits
