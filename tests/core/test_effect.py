"""Each cause of a cache that saves nothing is named within a minute and forgotten within one of its cure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.core.conditions import Verdict
from llmcache_operator.core.counts import RouterSample
from llmcache_operator.core.effect.judge import RULES
from llmcache_operator.core.window import Measurement
from tests.core.samples import MODEL
from tests.core.story import Pod, Round, Story

MINUTE = 4
"""Scrapes in a minute."""
Change = Callable[[Story], None]


def well(rounds: int = 24, **does: float) -> Story:
    """A service that has been well for six minutes."""
    story = Story()
    story.each(**does)
    assert story.play(rounds).reason is Reason.EFFECTIVE
    return story


def rounds_until(story: Story, reasons: set[Reason], most: int = 8) -> int:
    for count in range(1, most + 1):
        if story.play().reason in reasons:
            return count
    raise AssertionError(f"{reasons} not told, but {story.reasons()}: {story.told[-1].message}")


def _each(**does: float) -> Change:
    return lambda story: story.each(**does)


def _one(**fields: object) -> Change:
    def change(story: Story) -> None:
        for name, value in fields.items():
            setattr(story.engines[1], name, value)

    return change


def _story(**fields: object) -> Change:
    def change(story: Story) -> None:
        for name, value in fields.items():
            setattr(story, name, value)

    return change


def _frozen(*counters: str) -> Change:
    def change(story: Story) -> None:
        for engine in story.engines:
            engine.frozen = frozenset(counters)

    return change


def _unregistered(story: Story) -> None:
    """A connector that looks up but never registered: what is found for it is lost, and nothing is stored."""
    story.engines[1].round = replace(story.engines[1].round, server=0.0, found=0.7)


def _registered_again(story: Story) -> None:
    story.engines[1].round = replace(story.engines[1].round, server=0.3, found=None)


def _too_small(story: Story) -> None:
    story.capacity = 12 * 2**20
    story.restart_server()
    story.each(server=0.0, own=0.2, found=0.02, written=60, evicted=60)


def _large_again(story: Story) -> None:
    story.capacity = 4096 * 2**20
    story.restart_server()
    story.each(server=0.3, own=0.4, found=None, written=20, evicted=0)


def _uncached(share: float = 0.4) -> dict[str, float]:
    return {"server": 0.0, "own": share}


CAUSES: dict[str, tuple[Reason, Change, Change]] = {
    "no server is ready": (Reason.SERVER_UNREACHABLE, _story(server_up=False), _story(server_up=True)),
    "the server hangs": (Reason.SERVER_UNREACHABLE, _story(server_answers=False), _story(server_answers=True)),
    "a NetworkPolicy keeps engines from the server": (
        Reason.SERVER_UNREACHABLE,
        lambda story: [setattr(engine, "reaches", False) for engine in story.engines] and None,
        lambda story: [setattr(engine, "reaches", True) for engine in story.engines] and None,
    ),
    "one engine has another host": (Reason.ENGINES_NOT_REGISTERED, _one(reaches=False), _one(reaches=True)),
    "one engine is not registered": (Reason.ENGINES_NOT_REGISTERED, _story(registered=1), _story(registered=2)),
    "one engine lost its registration": (Reason.ENGINES_NOT_REGISTERED, _unregistered, _registered_again),
    "one engine has no connector": (Reason.ENGINES_NOT_REGISTERED, _one(connector=False), _one(connector=True)),
    "one engine has other weights": (
        Reason.IDENTITY_MISMATCH,
        _one(path="/llmcache/run/0123456789ab-000000000000"),
        _one(path="/llmcache/run/0123456789ab-ba9876543210"),
    ),
    "one engine has another dtype": (
        Reason.IDENTITY_MISMATCH,
        _one(args=("--dtype", "bfloat16", "--dtype=float16")),
        _one(args=("--dtype", "bfloat16")),
    ),
    "one engine is tensor-parallel": (
        Reason.IDENTITY_MISMATCH,
        _one(args=("--dtype", "bfloat16", "-tp", "2")),
        _one(args=("--dtype", "bfloat16")),
    ),
    "one engine keeps KV in another type": (
        Reason.IDENTITY_MISMATCH,
        _one(cache_dtype="fp8"),
        _one(cache_dtype="auto"),
    ),
    "the server has another chunk size": (Reason.IDENTITY_MISMATCH, _story(chunk_size=512), _story(chunk_size=256)),
    "prompt counters stand still": (
        Reason.COUNTERS_STUCK,
        _frozen("computed", "engine_hits", "server_hits", "prompt_tokens"),
        _frozen(),
    ),
    "hit counters stand still": (Reason.COUNTERS_STUCK, _frozen("server_hits", "server_found"), _frozen()),
    "a counter of hits is behind the other": (Reason.COUNTERS_STUCK, _frozen("server_hits"), _frozen()),
    "prompts are shorter than a chunk": (
        Reason.TOO_SHORT_PROMPTS,
        _each(prompt=150, short=1.0, asked=0.0, written=0, **_uncached()),
        _each(prompt=2000, short=0.0, asked=0.9, written=20, server=0.3),
    ),
    "the policy is blind": (
        Reason.ROUTER_SCATTERS,
        _story(spec={"router": {"policy": "RoundRobin"}}),
        _story(spec={}),
    ),
    "clients go past the router": (
        Reason.ROUTER_SCATTERS,
        _each(through_router=0.0),
        _each(through_router=1.0),
    ),
    "reloads are slow": (Reason.SLOWER_THAN_PREFILL, _each(reload_seconds=0.01), _each(reload_seconds=0.0004)),
    "the cache is too small": (Reason.EVICTING, _too_small, _large_again),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_is_named_within_a_minute_and_cleared_within_one(cause: str) -> None:
    reason, inject, cure = CAUSES[cause]
    story = well()
    story.uneven = 0.5
    story.play(4)

    inject(story)
    assert rounds_until(story, {reason}) <= MINUTE
    named = story.told[-1]
    assert named.status is False
    assert named.message.endswith(".")

    cure(story)
    assert rounds_until(story, {Reason.EFFECTIVE, Reason.CACHE_EMPTIED}) <= MINUTE


@pytest.mark.parametrize(("left", "reason"), [(0, Reason.SERVER_UNREACHABLE), (1, Reason.ENGINES_NOT_REGISTERED)])
def test_engines_that_the_server_has_forgotten_are_told_at_once(left: int, reason: Reason) -> None:
    """They hang, so that no counter moves: the server itself has waited for half a minute."""
    story = well()
    story.each(requests=0)
    story.play(1)

    story.registered = left

    assert rounds_until(story, {reason}) == 1
    story.registered = 2
    story.each(requests=10)
    assert rounds_until(story, {Reason.EFFECTIVE}) <= MINUTE


def test_slow_reloads_are_told_as_soon_as_three_steps_show_them() -> None:
    story = well()
    story.uneven = 0.5
    story.play(4)

    _each(reload_seconds=0.005)(story)

    assert rounds_until(story, {Reason.SLOWER_THAN_PREFILL}) == 3


def _counting_moves() -> Story:
    story = well()
    for engine in story.engines:
        engine.counts_moves = True
    story.uneven = 0.5
    story.play(8)
    return story


@pytest.mark.parametrize("queued", [0, 3])
def test_what_moves_slowly_by_the_engines_own_counts_is_told_though_requests_queue(queued: int) -> None:
    story = _counting_moves()
    for engine in story.engines:
        engine.queued = queued

    _each(reload_seconds=0.004)(story)
    assert rounds_until(story, {Reason.SLOWER_THAN_PREFILL}) <= 2
    assert "Moving 1,000 tokens from the LMCache server to an engine takes" in story.told[-1].message

    _each(reload_seconds=0.0004)(story)
    assert rounds_until(story, {Reason.EFFECTIVE}) <= MINUTE - 1


def test_what_moves_fast_is_not_called_slow_for_the_waiting_of_requests() -> None:
    """Times to first token would say so, but there is no second tier to wait for."""
    story = _counting_moves()
    for engine in story.engines:
        engine.counts["busy"] += 100

    assert {story.play().reason for _ in range(8)} == {Reason.EFFECTIVE}


def test_a_slow_second_tier_is_told_by_times_to_first_token() -> None:
    story = _counting_moves()
    story.spec = {"cache": {"l2": {"valkey": {"managed": {"memory": "1Gi"}}}}}
    story.play(4)
    for engine in story.engines:
        engine.frozen = frozenset({"loading"})

    _each(reload_seconds=0.01)(story)

    assert rounds_until(story, {Reason.SLOWER_THAN_PREFILL}) <= MINUTE


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_slow_reloads_are_told_wherever_between_two_scrapes_they_begin(part: float) -> None:
    story = well()
    story.uneven = 0.5
    story.play(4)
    fast, slow = 0.0004, 0.005

    _each(reload_seconds=fast + part * (slow - fast))(story)
    story.play(1)
    _each(reload_seconds=slow)(story)

    assert rounds_until(story, {Reason.SLOWER_THAN_PREFILL}) <= MINUTE - 1


def test_slow_reloads_stay_told_until_they_are_fast_again() -> None:
    story = well()
    story.uneven = 0.5
    story.play(4)
    _each(reload_seconds=0.005)(story)
    assert rounds_until(story, {Reason.SLOWER_THAN_PREFILL}) <= MINUTE

    assert {story.play().reason for _ in range(24)} == {Reason.SLOWER_THAN_PREFILL}
    _each(reload_seconds=0.0004)(story)
    assert rounds_until(story, {Reason.EFFECTIVE}) <= MINUTE


def test_a_cause_says_what_it_saw_and_what_to_do() -> None:
    story = well()
    story.engines[1].path = "/llmcache/run/0123456789ab-000000000000"
    story.play(MINUTE)

    message = story.told[-1].message
    assert "model path" in message
    assert "/llmcache/run/0123456789ab-000000000000 on chat-engine-1" in message
    assert "on chat-engine-0" in message


def test_engines_that_lag_behind_the_router_are_not_asked_past_it() -> None:
    """Requests pile up in one step and are served in the next three."""
    story = well()
    for requests, sent, left in 4 * [(2, 38, 36), (14, 2, 24), (14, 2, 12), (14, 2, 0)]:
        story.each(requests=requests, through_router=sent / requests)
        for engine in story.engines:
            engine.waiting = left
        story.play()

    assert set(story.reasons()) <= {"TooFewRequests", "Idle", "Effective"}


def test_engines_that_are_asked_past_the_router_may_lag_too() -> None:
    story = well()
    for engine in story.engines:
        engine.waiting = 10
    story.each(through_router=0.0)

    assert rounds_until(story, {Reason.ROUTER_SCATTERS}) <= MINUTE
    story.each(through_router=1.0)
    assert rounds_until(story, {Reason.EFFECTIVE}) <= MINUTE


def test_an_engine_without_a_connector_is_told_as_such_though_it_is_not_registered_either() -> None:
    story = well()
    story.engines[1].connector, story.registered = False, 1

    assert rounds_until(story, {Reason.ENGINES_NOT_REGISTERED}) <= MINUTE
    assert "without LMCache's connector" in story.told[-1].message


def test_a_rollout_may_have_two_identities() -> None:
    story = well()
    story.settled = False
    story.engines[1].path = "/llmcache/run/ffffffffffff-000000000000"

    assert story.play(MINUTE).reason is Reason.EFFECTIVE


def test_a_server_that_restarted_empty_is_told_until_it_holds_half_again() -> None:
    story = well()
    story.restart_server()
    story.each(written=5)

    assert rounds_until(story, {Reason.CACHE_EMPTIED}) <= MINUTE
    assert "restarted at" in story.told[-1].message
    assert story.play(3).reason is Reason.CACHE_EMPTIED
    story.each(written=600)
    assert rounds_until(story, {Reason.EFFECTIVE}) <= MINUTE


def test_engines_have_a_moment_to_register_again_at_a_server_that_restarted() -> None:
    story = well()
    story.restart_server()
    story.server["unknown_lookups"] = 20
    story.registered = 0
    assert story.play(2).reason is Reason.CACHE_EMPTIED

    assert rounds_until(story, {Reason.SERVER_UNREACHABLE}) <= MINUTE
    story.registered = 2
    assert rounds_until(story, {Reason.CACHE_EMPTIED, Reason.EFFECTIVE}) <= MINUTE


def test_a_server_that_was_cleared_is_told_too_and_evictions_are_not_that() -> None:
    story = well()
    story.used *= 0.4
    assert story.play(2).reason is Reason.CACHE_EMPTIED
    assert "was cleared" in story.told[-1].message

    evicting = well()
    evicting.used *= 0.4
    evicting.each(evicted=1)
    assert evicting.play(2).reason is Reason.EFFECTIVE


def test_engines_with_servers_of_their_own_miss_no_shared_one() -> None:
    story = Story(spec={"cache": {"topology": "PerEngine"}}, server_up=True)
    story.play(8)
    assert story.told[-1].reason is Reason.EFFECTIVE

    story.server_answers = False
    assert rounds_until(story, {Reason.SERVER_UNREACHABLE}) <= MINUTE
    assert "refused" in story.told[-1].message


def test_a_lost_cache_is_forgotten_after_a_window() -> None:
    story = well()
    story.restart_server()
    story.each(written=0)

    assert story.play(8).reason is Reason.CACHE_EMPTIED
    assert story.play(16).reason is Reason.EFFECTIVE


def test_a_cache_that_is_too_small_is_told_with_the_size_that_would_do() -> None:
    story = well()
    story.spec = {"cache": {"memory": "1Gi"}}
    story.used, story.capacity = 900 * 2**20, 2**30
    story.each(server=0.0, own=0.2, found=0.02, written=400, evicted=400)
    assert rounds_until(story, {Reason.EVICTING}) <= MINUTE

    story.play(20)
    assert "it holds 1.0 GiB" in story.told[-1].message
    assert "Set spec.cache.memory to 21Gi or more, or add spec.cache.l2." in story.told[-1].message


def test_a_cache_that_is_sized_in_tokens_and_has_an_l2_is_advised_in_its_own_words() -> None:
    kv = {"layers": 32, "heads": 8, "headDim": 128}
    story = well()
    story.spec = {
        "model": MODEL | {"kv": kv},
        "cache": {"capacity": {"tokens": "6k"}, "l2": {"fileSystem": {"claimName": "kv"}}},
    }
    story.used, story.capacity = 900 * 2**20, 2**30
    story.each(server=0.0, own=0.2, found=0.02, written=400, evicted=400)
    assert rounds_until(story, {Reason.EVICTING}) <= MINUTE

    assert re.search(r"capacity to [0-9,]+ tokens in all, from 6,000, or more, or give the L2", story.told[-1].message)


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        ({}, "Put the server nearer (spec.cache.topology: PerEngine), give the servers more CPU"),
        ({"topology": "PerEngine", "l2": {"valkey": {"managed": {}}}}, "Take an L2 that is nearer or has more CPU"),
        ({"topology": "PerEngine"}, "Give the servers more CPU (spec.cache.cpu), or do without them"),
    ],
)
def test_slow_reloads_are_answered_by_what_the_service_has(cache: dict[str, Any], said: str) -> None:
    story = well()
    story.spec = {"cache": cache}
    story.uneven = 0.5
    story.play(8)
    _each(reload_seconds=0.01)(story)
    assert rounds_until(story, {Reason.SLOWER_THAN_PREFILL}) <= 2 * MINUTE

    assert f"Hits cost time. {said}" in story.told[-1].message


def test_verdicts_that_alternate_keep_no_old_one_alive() -> None:
    story = well()
    story.server_up = False
    assert rounds_until(story, {Reason.SERVER_UNREACHABLE}) <= MINUTE

    story.server_up = True
    for _ in range(4):
        story.each(server=0.0, own=0.0, found=0.02, written=60, evicted=60)
        story.play()
        story.each(server=0.3, own=0.4, found=None, written=20, evicted=0)
        story.play()

    assert story.reasons()[-1] != "ServerUnreachable"


def test_wrong_kv_comes_before_everything_that_traffic_shows() -> None:
    story = well()
    story.sharing = Verdict(
        ConditionType.CACHE_SHARING_VERIFIED, status=False, reason=Reason.WRONG_KV, message="B answers otherwise."
    )

    assert story.play().reason is Reason.WRONG_KV
    assert "B answers otherwise." in story.told[-1].message


def test_reuse_that_the_engines_serve_alone_is_no_fault() -> None:
    story = Story()
    story.each(own=0.6, server=0.0)

    verdict = story.play(8)
    assert (verdict.status, verdict.reason) == (True, Reason.FITS_IN_ENGINE)
    assert "60 %" in verdict.message


def test_a_full_cache_that_finds_what_it_is_asked_for_is_no_fault() -> None:
    story = well(written=40, evicted=40)

    assert set(story.reasons()) <= {"TooFewRequests", "Idle", "Effective"}


@pytest.mark.parametrize("known", [True, False])
def test_kv_that_stays_in_the_l2_for_want_of_room_is_told_with_what_to_do(known: bool) -> None:  # noqa: FBT001
    """An engine asks for 18,000 tokens in a step, 70 chunks."""
    story = Story()
    if known:
        story.spec = {
            "model": MODEL | {"kv": {"layers": 30, "heads": 3, "headDim": 64}},
            "engine": {"maxModelLen": 8192},
        }
    story.each(server=0.1, no_room=27)

    assert rounds_until(story, {Reason.EVICTING}) <= MINUTE
    message = story.told[-1].message
    assert "no room to load" in message
    assert ("spec.model.kv" in message) == (not known)
    story.each(server=0.3, no_room=0)
    assert rounds_until(story, {Reason.EFFECTIVE}) <= MINUTE


def test_a_few_chunks_without_room_are_no_fault() -> None:
    story = well(no_room=3)

    assert "Evicting" not in story.reasons()


def test_traffic_that_shares_nothing_is_told_once_there_is_enough_of_it() -> None:
    story = Story()
    story.each(own=0.0, server=0.0, expected=0.0, requests=0)
    story.play(3)
    story.each(requests=4)

    assert rounds_until(story, {Reason.NO_REUSE}) <= MINUTE
    story.each(own=0.5)
    assert rounds_until(story, {Reason.FITS_IN_ENGINE, Reason.EFFECTIVE}) <= MINUTE


def test_reuse_that_only_the_router_sees_is_told_as_such() -> None:
    story = Story()
    story.each(own=0.0, server=0.0, expected=0.6, found=0.0)

    assert story.play(8).reason is Reason.NO_REUSE
    assert "60 %" in story.told[-1].message


def test_an_idle_service_is_unknown_and_its_message_never_changes() -> None:
    story = well()
    story.each(requests=0)
    story.play(24)

    last = story.told[-1]
    assert (last.status, last.reason) == (None, Reason.IDLE)
    assert len({verdict.message for verdict in [story.play() for _ in range(30)]}) == 1


def test_few_requests_give_no_verdict() -> None:
    story = Story()
    story.each(requests=0)
    story.play(2)
    story.engines[0].round = Round(requests=1)
    story.play(3)
    story.each(requests=0)

    assert story.play(2).reason is Reason.TOO_FEW_REQUESTS


def test_nothing_is_said_before_the_first_scrape() -> None:
    story = Story(engines=[])

    assert story.play().reason is Reason.NOT_SAMPLED_YET


def test_a_single_odd_scrape_changes_nothing() -> None:
    story = well()
    story.each(prompt=150, short=1.0, asked=0.0, written=0, **_uncached())
    story.play()
    story.each(prompt=2000, short=0.0, asked=0.9, written=20, server=0.3)
    story.play(6)

    assert "TooShortPrompts" not in story.reasons()


def test_engines_that_restart_join_and_leave_are_no_cause() -> None:
    story = well()
    story.restart(story.engines[0])
    story.play(3)
    story.engines.append(Pod("chat-engine-2", born=story.at + 1))
    story.play(4)
    del story.engines[1]
    story.play(8)

    assert set(story.reasons()) <= {"TooFewRequests", "Idle", "Effective"}


def test_requests_past_a_new_router_are_told_although_the_old_one_left_lately() -> None:
    story = well()
    old = RouterSample("chat-router-old", "uid-old", story.at - 1, 100, started_at=1.0)
    story.measurement = story.measurement.with_router(old)
    story.play(1)

    story.each(through_router=0.0)

    assert rounds_until(story, {Reason.ROUTER_SCATTERS}) <= MINUTE


def test_a_router_that_is_there_but_not_measured_may_have_sent_what_is_missing() -> None:
    story = well()
    hidden = RouterSample("chat-router-1", "uid-r1", story.at - 1, 100, started_at=1.0)
    story.measurement = story.measurement.with_router(hidden)
    story.lost = ("chat-router-1",)

    story.each(through_router=0.5)

    assert story.play(2 * MINUTE).reason is Reason.EFFECTIVE


def test_a_router_that_restarts_is_no_detour() -> None:
    story = well()
    story.restart_router()
    story.play(4)

    assert set(story.reasons()) <= {"TooFewRequests", "Idle", "Effective"}


def test_after_a_restart_of_the_operator_what_was_told_stays_until_it_knows_better() -> None:
    story = well()
    story.measurement = Measurement()
    assert story.play().reason is Reason.EFFECTIVE

    story.measurement = Measurement()
    story.each(requests=0)
    assert story.play(3).reason is Reason.EFFECTIVE
    assert story.play(24).reason is Reason.IDLE


def test_a_verdict_does_not_swing_around_its_threshold() -> None:
    story = Story()
    for number in range(60):
        story.each(own=0.5, server=0.0106 if number % 8 < 4 else 0.0094)
        story.play()

    assert len(story.reasons()) <= 4


def test_little_evidence_is_gathered_over_a_longer_time() -> None:
    story = Story()
    for engine in story.engines:
        engine.round = Round(requests=0)
    for number in range(16):
        story.engines[number % 2].round = Round(requests=1)
        story.engines[1 - number % 2].round = Round(requests=0)
        story.play()

    assert story.told[-1].reason is Reason.EFFECTIVE


def test_every_reason_of_the_condition_has_a_rule() -> None:
    ruled = {reason for reason, _, _ in RULES}
    effect = list(Reason)[list(Reason).index(Reason.EFFECTIVE) : list(Reason).index(Reason.NO_REUSE) + 1]

    assert set(effect) | {Reason.WRONG_KV, Reason.NOT_SAMPLED_YET} == ruled


def _healthy_round(random: Random) -> Round:
    return Round(
        requests=random.choice([0, random.randint(1, 4), random.randint(5, 60)]),
        prompt=random.randint(600, 6000),
        own=random.uniform(0.1, 0.6),
        server=random.uniform(0.05, 0.35),
        short=random.uniform(0, 0.3),
        reload_seconds=random.uniform(0.0001, 0.0008),
        compute_seconds=random.uniform(0.0015, 0.0025),
        asked=random.uniform(0.6, 1.0),
        written=random.randint(0, 200),
        evicted=random.randint(0, 30),
        expected=random.uniform(0.2, 0.9),
    )


@settings(max_examples=20, phases=[Phase.explicit, Phase.generate], derandomize=True)
@given(st.integers(0, 2**32))
@example(76)
def test_a_healthy_service_never_hears_a_false_alarm(seed: int) -> None:
    story, random = Story(), Random(seed)  # noqa: S311 - test data
    for _ in range(40):
        for engine in story.engines:
            engine.round = _healthy_round(random)
        event = random.choice(["an engine restarts", "the router restarts", "", "", "", ""])
        if event == "an engine restarts":
            story.restart(story.engines[1])
        if event == "the router restarts":
            story.restart_router()
        story.play()

    assert [verdict for verdict in story.told if verdict.status is False] == []
