"""What each policy is for."""

import json
from collections import Counter
from typing import Any, TypeVar

from llmcache_runtime.policy import (
    Fleet,
    LeastLoaded,
    Pick,
    PrefixAware,
    Prices,
    Reason,
    RequestKey,
    RoundRobin,
    SessionAffinity,
    request_key,
)

AnyFleet = TypeVar("AnyFleet", bound=Fleet)
LONG = "once upon a time " * 1000


def key(*contents: str, session: bytes | None = None, **more: Any) -> RequestKey:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    return request_key(json.dumps({"model": "m", "stream": True, "messages": messages} | more).encode(), session)


def made(policy: AnyFleet, count: int = 4) -> AnyFleet:
    for i in range(count):
        policy.add(f"engine-{i}", 0.0)
    return policy


def pick(policy: Fleet, request: RequestKey, exclude: frozenset[str] = frozenset()) -> Pick:
    found = policy.pick(request, 0.0, exclude)
    assert found is not None
    return found


def serve(policy: Fleet, request: RequestKey, exclude: frozenset[str] = frozenset()) -> Pick:
    """Play a request to its end."""
    found = pick(policy, request, exclude)
    ticket = policy.on_start(found, 0.0)
    policy.on_first_token(ticket, 0.0)
    policy.on_end(ticket, 0.0)
    return found


def test_a_conversation_follows_its_prefix() -> None:
    policy = made(PrefixAware())
    first = serve(policy, key(LONG))
    second = pick(policy, key(LONG, "answer", "next question"))

    assert first.reason is Reason.HOME
    assert second.engine == first.engine
    assert second.reason is Reason.PREFIX
    assert second.tiers.engine > 4000
    assert second.tiers.compute < 200


def test_a_busy_holder_is_passed_over_when_waiting_costs_more_than_computing() -> None:
    policy = made(PrefixAware())
    holder = serve(policy, key(LONG)).engine
    only_holder = frozenset({f"engine-{i}" for i in range(4)} - {holder})
    for i in range(30):
        policy.on_start(pick(policy, key(f"{i}" + LONG), only_holder), 0.0)
    moved = pick(policy, key(LONG, "answer", "next"))

    assert moved.engine != holder
    assert moved.reason is Reason.LOAD


def test_the_price_of_a_reload_decides_when_a_holder_is_passed_over() -> None:
    def choice(ratio: float) -> str:
        policy = made(PrefixAware(Prices(reload_ratio=ratio)))
        holder = serve(policy, key(LONG)).engine
        only_holder = frozenset({f"engine-{i}" for i in range(4)} - {holder})
        policy.on_start(pick(policy, key("x" * 12000), only_holder), 0.0)
        return "stay" if pick(policy, key(LONG, "a", "b")).engine == holder else "move"

    assert [choice(1.0), choice(0.9), choice(0.35), choice(0.0)] == ["stay", "stay", "move", "move"]


def test_the_shared_tier_holds_whole_chunks_of_what_was_prefilled() -> None:
    policy = made(PrefixAware())
    request = key("x" * 5000)
    begun = pick(policy, request)
    others = frozenset({begun.engine})
    ticket = policy.on_start(begun, 0.0)
    before = pick(policy, request, others)
    policy.on_first_token(ticket, 0.0)
    after = pick(policy, request, others)

    assert before.tiers.shared == 0
    assert after.tiers == (0, 1024, before.tiers.compute - 1024)
    assert after.reason is Reason.SHARED


def test_a_restarted_engine_holds_nothing_and_the_shared_tier_still_does() -> None:
    policy = made(PrefixAware(), 1)
    serve(policy, key(LONG))
    policy.restart("engine-0")

    assert pick(policy, key(LONG)).tiers.engine == 0
    assert pick(policy, key(LONG)).tiers.shared > 4000


def test_memory_stays_bounded() -> None:
    policy = made(PrefixAware(engine_chunks=1000, shared_chunks=500))
    for i in range(500):
        serve(policy, key(f"{i} " * 2000))

    assert all(len(index) <= 1000 for index in (memory.prefixes for memory in policy._memories.values()))
    assert len(policy._shared) <= 500


def test_a_known_capacity_bounds_what_an_engine_is_thought_to_hold() -> None:
    policy = made(PrefixAware(), 1)
    policy.set_capacity("engine-0", 640)
    serve(policy, key(LONG))

    assert pick(policy, key(LONG)).tiers.engine == 640


def test_replicas_agree_on_new_conversations_and_spread_them() -> None:
    replicas = [made(PrefixAware()) for _ in range(3)]
    names = [[serve(policy, key(f"{i} {LONG}")).engine for policy in replicas] for i in range(200)]
    counts = Counter(name for name, *_ in names)

    assert all(len(set(same)) == 1 for same in names)
    assert min(counts.values()) > 25


def test_a_replica_that_never_saw_a_conversation_finds_its_engine() -> None:
    one, other = made(PrefixAware()), made(PrefixAware())

    for i in range(50):
        first = serve(one, key(f"{i} {LONG}"))
        assert pick(other, key(f"{i} {LONG}", "answer", "next")).engine == first.engine


def test_replicas_agree_among_equals_whatever_order_engines_came_in() -> None:
    def second_choice(order: range) -> str:
        policy = PrefixAware()
        for i in order:
            policy.add(f"engine-{i}", 0.0)
        others = frozenset({f"engine-{i}" for i in order} - {pick(policy, key(LONG)).engine})
        for i in range(10):
            policy.on_start(pick(policy, key(f"{i}" + LONG), others), 0.0)
        return pick(policy, key(LONG)).engine

    assert second_choice(range(4)) == second_choice(range(3, -1, -1))


def test_losing_an_engine_moves_only_its_own_conversations() -> None:
    policy = made(PrefixAware())
    before = {i: pick(policy, key(f"{i} {LONG}")).engine for i in range(200)}
    after = {i: pick(policy, key(f"{i} {LONG}"), frozenset({"engine-2"})).engine for i in range(200)}

    assert all(after[i] == before[i] for i in before if before[i] != "engine-2")


def test_sessions_stick_and_spill_over_when_their_engine_is_too_busy() -> None:
    policy = made(SessionAffinity(bound=1.25))
    requests = [key(f"{i}", session=b"me") for i in range(8)]
    alone = {pick(policy, request).engine for request in requests}
    picks = [policy.on_start(pick(policy, request), 0.0).pick for request in requests]
    counts = Counter(p.engine for p in picks)

    assert len(alone) == 1
    assert picks[0].reason is Reason.SESSION
    assert Reason.SESSION_OVERFLOW in {p.reason for p in picks}
    assert max(counts.values()) <= 3


def test_without_a_header_each_conversation_is_its_session() -> None:
    policy = made(SessionAffinity())
    counts = Counter(serve(policy, key(f"{i} hello")).engine for i in range(200))
    turns = {serve(policy, key(LONG, *["answer", "next"] * n)).engine for n in range(5)}

    assert min(counts.values()) > 25
    assert len(turns) == 1


def test_the_least_loaded_engine_is_taken() -> None:
    policy = made(LeastLoaded())
    counts = Counter(policy.on_start(pick(policy, key(f"{i}")), 0.0).pick.engine for i in range(40))

    assert set(counts.values()) == {10}


def test_round_robin_takes_turns() -> None:
    policy = made(RoundRobin(), 3)
    names = [serve(policy, key("same")).engine for _ in range(6)]

    assert names == ["engine-0", "engine-1", "engine-2"] * 2


def test_where_engines_share_nothing_only_their_own_caches_count() -> None:
    policy = made(PrefixAware(Prices(shared=False)))
    first = serve(policy, key(LONG))
    elsewhere = pick(policy, key(LONG), frozenset({first.engine}))

    assert elsewhere.tiers.shared == 0
    assert elsewhere.tiers.compute > 0
