"""What all policies hold to."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcache_runtime.policy import POLICIES, Fleet, Pick, RequestKey, Ticket, request_key

NAMES = ["a", "b", "c", "d"]
ALL = pytest.mark.parametrize("policy", POLICIES)


def key(text: str = "hello", *, stream: bool = True) -> RequestKey:
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}
    return request_key(json.dumps(body).encode())


def fleet(policy: str, *names: str) -> Fleet:
    made = POLICIES[policy]()
    for name in names or NAMES:
        made.add(name, 0.0)
    return made


def picked(policy: Fleet, text: str, now: float = 0.0) -> Pick:
    pick = policy.pick(key(text), now)
    assert pick is not None
    return pick


@ALL
def test_no_engine_no_pick(policy: str) -> None:
    made = fleet(policy, "a")

    assert POLICIES[policy]().pick(key(), 0.0) is None
    assert made.pick(key(), 0.0, {"a"}) is None
    made.remove("a")
    assert made.pick(key(), 0.0) is None


@ALL
def test_picking_changes_nothing(policy: str) -> None:
    made = fleet(policy)

    assert [picked(made, "x" * 5000) for _ in range(3)] == [picked(made, "x" * 5000)] * 3


@ALL
def test_load_is_counted_until_the_end_however_often_that_is_told(policy: str) -> None:
    made = fleet(policy, "a")
    ticket = made.on_start(picked(made, "x" * 4096), 0.0)
    (engine,) = made.engines
    started = engine.running, engine.queued
    for _ in range(2):
        made.on_first_token(ticket, 1.0)
    prefilled = engine.running, engine.queued
    for _ in range(2):
        made.on_end(ticket, 2.0)

    assert started == (1, ticket.pick.cost)
    assert ticket.pick.cost > 1000
    assert prefilled == (1, 0.0)
    assert (engine.running, engine.queued) == (0, 0.0)


@ALL
def test_a_prefill_whose_end_nobody_sees_leaves_the_queue_in_time(policy: str) -> None:
    made = fleet(policy, "a")
    made.set_prefill_rate("a", 1000.0)
    pick = made.pick(key("x" * 4096, stream=False), 0.0)
    assert pick is not None
    ticket = made.on_start(pick, 0.0)
    (engine,) = made.engines
    made.pick(key(), 0.5)
    before = engine.queued
    made.pick(key(), 2.0)
    after = engine.queued
    made.on_end(ticket, 9.0)

    assert (before, after) == (pick.cost, 0.0)
    assert (engine.running, engine.queued) == (0, 0.0)


@ALL
def test_an_engine_that_left_is_counted_until_its_last_request_ends(policy: str) -> None:
    made = fleet(policy, "a", "b")
    pick = picked(made, "x" * 4096)
    ticket = made.on_start(pick, 0.0)
    made.remove(pick.engine)
    others = {picked(made, f"{i}").engine for i in range(20)}
    made.on_end(ticket, 1.0)

    assert pick.engine not in others
    assert [engine.name for engine in made.engines] == list(others)


@ALL
def test_an_engine_that_comes_back_keeps_its_counts(policy: str) -> None:
    made = fleet(policy, "a")
    ticket = made.on_start(picked(made, "x"), 0.0)
    made.remove("a")
    made.add("a", 1.0)
    (engine,) = made.engines
    running = engine.running
    made.on_end(ticket, 2.0)

    assert (running, engine.running) == (1, 0)


@ALL
def test_ends_of_requests_on_forgotten_engines_are_ignored(policy: str) -> None:
    made = fleet(policy, "a", "b")
    pick = picked(made, "x")
    made.remove(pick.engine)
    ticket = made.on_start(pick, 0.0)
    made.on_first_token(ticket, 0.0)
    made.on_end(ticket, 0.0)

    assert all(engine.running == 0 for engine in made.engines)


@ALL
def test_a_cold_engine_gets_its_share_little_by_little(policy: str) -> None:
    made = fleet(policy, "a", "b")
    for i in range(40):
        made.on_start(picked(made, f"{i} " * 300), 0.0)
    made.add("new", 100.0, cold=True)
    counts = []
    for now in (100.5, 105.0, 200.0):
        for i in range(60):
            made.on_start(picked(made, f"{now} {i} " * 300, now), now)
        counts.append(next(e.running for e in made.engines if e.name == "new"))

    assert counts[0] <= 5 < counts[1] < counts[2]


Steps = st.lists(
    st.tuples(
        st.sampled_from(["request", "first", "end", "drain", "undrain", "remove", "restart"]),
        st.integers(0, 10),
    ),
    max_size=60,
)


def play(policy: str, steps: list[tuple[str, int]]) -> list[tuple[Pick | None, frozenset[str], frozenset[str]]]:
    """Play steps; give each pick with the engines that were there and those of them that drained."""
    made = fleet(policy)
    there, draining = set(NAMES), set[str]()
    tickets: list[Ticket] = []
    picks = []
    actions: dict[str, Any] = {"drain": made.drain, "remove": made.remove, "restart": made.restart}
    for now, (step, number) in enumerate(steps):
        name = NAMES[number % len(NAMES)]
        if step == "request":
            pick = made.pick(key(f"{number}" * 2000), now)
            picks.append((pick, frozenset(there), frozenset(draining)))
            if pick is not None:
                tickets.append(made.on_start(pick, now))
        elif step in {"first", "end"} and tickets:
            ticket = tickets[number % len(tickets)]
            (made.on_first_token if step == "first" else made.on_end)(ticket, now)
        elif step == "undrain":
            made.add(name, now)
            there.add(name)
            draining.discard(name)
        elif step in actions:
            actions[step](name)
            if step == "drain" and name in there:
                draining.add(name)
            if step == "remove":
                there.discard(name)
                draining.discard(name)
    for ticket in tickets:
        made.on_end(ticket, len(steps))
    assert all(engine.running == 0 and abs(engine.queued) < 1e-6 for engine in made.engines)
    return picks


@ALL
@settings(max_examples=60, deadline=None)
@given(steps=Steps)
def test_whatever_happens_picks_are_present_not_draining_and_repeatable(
    policy: str, steps: list[tuple[str, int]]
) -> None:
    picks = play(policy, steps)

    assert play(policy, steps) == picks
    for pick, there, draining in picks:
        assert (pick is None) == (not there)
        if pick is not None:
            assert pick.engine in (there - draining or there)
