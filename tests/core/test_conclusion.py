"""From pairs of engines to one result that names who is odd."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.conclusion import ENOUGH, PairFinding, conclusion, is_enough, ring
from llmcache_operator.core.values import SelfTest, SelfTestResult, ServiceKey

NAMES = ("a", "b", "c", "d")
WORST_FIRST = (Reason.WRONG_KV, Reason.NOTHING_SHARED, Reason.PROBE_FAILED)


def due(**changes: Any) -> SelfTest:
    known: dict[str, Any] = {
        "key": ServiceKey("ns", "chat"),
        "uid": "u",
        "model": "m",
        "fleet": "f1",
        "engines": (),
        "servers": (),
        "chunk": 256,
        "tail": 33,
        "busy": 64,
    }
    return SelfTest(**known | changes)


def all_pairs(*odd: str, bad: Reason = Reason.NOTHING_SHARED) -> list[PairFinding]:
    pairs = zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)
    return [PairFinding(w, r, bad if {w, r} & set(odd) else Reason.VERIFIED, f"{w} to {r} is odd.") for w, r in pairs]


@given(st.integers(2, 40))
def test_in_a_ring_each_engine_writes_once_and_reads_once(count: int) -> None:
    engines: list[dict[str, Any]] = [{"name": index} for index in range(count)]
    pairs = ring(engines)

    assert [writer for writer, _ in pairs] == engines
    assert sorted(reader["name"] for _, reader in pairs) == list(range(count))
    assert all(writer is not reader for writer, reader in pairs)


def test_a_fleet_that_shares_is_verified() -> None:
    found = conclusion(due(), all_pairs(), 5.0)

    assert (found.reason, found.failures, found.complete, found.at, found.fleet) == (
        Reason.VERIFIED,
        0,
        True,
        5.0,
        "f1",
    )
    assert found.message.startswith("4 of 4 engines took KV")


def test_engines_that_were_too_busy_to_be_asked_are_told_and_left_for_later() -> None:
    busy = [PairFinding("a", "b", Reason.VERIFIED), PairFinding("b", "a", Reason.SATURATED)]
    found = conclusion(due(left_out=1), busy, 5.0)

    assert (found.reason, found.complete) == (Reason.VERIFIED, False)
    assert "1 of 3 engines" in found.message
    assert "busy" in found.message


def test_the_engine_that_is_in_every_bad_pair_is_named() -> None:
    found = conclusion(due(), all_pairs("b"), 5.0)

    assert found.reason is Reason.NOTHING_SHARED
    assert "All 2 pairs that fail have b in them" in found.message


def test_of_two_engines_neither_is_blamed() -> None:
    pairs = [PairFinding(w, r, Reason.NOTHING_SHARED, f"{w} to {r}.") for w, r in (("a", "b"), ("b", "a"))]

    assert "look at this pod" not in conclusion(due(), pairs, 5.0).message


def test_wrong_kv_is_worse_than_no_kv_and_an_error_tells_least() -> None:
    pairs = [PairFinding("a", "b", reason, str(reason)) for reason in (*reversed(WORST_FIRST), Reason.VERIFIED)]
    for worst in WORST_FIRST:
        assert conclusion(due(), pairs, 5.0).reason is worst
        pairs = [pair for pair in pairs if pair.reason is not worst]


def test_failures_in_a_row_are_counted_and_a_success_ends_them() -> None:
    assert conclusion(due(), all_pairs("a"), 5.0).failures == 1
    assert conclusion(due(failures=1), all_pairs("a"), 9.0).failures == 2
    assert conclusion(due(failures=1), all_pairs(), 9.0).failures == 0


def test_a_test_that_found_all_engines_busy_changes_nothing_that_is_known() -> None:
    busy = [PairFinding("a", "b", Reason.SATURATED), PairFinding("b", "a", Reason.SATURATED)]
    known = SelfTestResult(1.0, "f1", Reason.VERIFIED, "m")

    assert conclusion(due(last=known), busy, 5.0) == known
    assert conclusion(due(), busy, 5.0).reason is Reason.SATURATED


def test_a_few_bad_pairs_are_enough() -> None:
    bad = PairFinding("a", "b", Reason.NOTHING_SHARED)

    assert not is_enough([bad] * (ENOUGH - 1))
    assert is_enough([bad] * ENOUGH)


findings = st.builds(
    PairFinding,
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from([*WORST_FIRST, Reason.VERIFIED, Reason.SATURATED]),
    st.just("why"),
)


@given(st.lists(findings, min_size=1, max_size=8))
def test_verified_means_that_something_was_and_nothing_was_wrong(pairs: list[PairFinding]) -> None:
    reasons = {pair.reason for pair in pairs}
    found = conclusion(due(), pairs, 5.0)

    assert (found.reason is Reason.VERIFIED) == (Reason.VERIFIED in reasons and not reasons & set(WORST_FIRST))
    assert found.reason in reasons
    assert (found.failures == 0) == (found.reason is Reason.VERIFIED)
    assert found.message


@pytest.mark.parametrize("bad", WORST_FIRST)
def test_messages_of_the_same_failure_are_the_same(bad: Reason) -> None:
    """Else each test of a service that stays broken would be a write."""
    first = conclusion(due(), all_pairs("b", bad=bad), 5.0)
    again = conclusion(due(last=first), all_pairs("b", bad=bad), 50.0)

    assert first.message == again.message
