"""Simulated multi-round question answering: the bars that the default policy must hold, on one seed.

`make bench-router` has the whole of it: more seeds, all neighbours, the price of the shared tier.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import pytest

from llmcache_runtime.policy import Fleet, PrefixAware, RoundRobin, SessionAffinity
from tests.bench.neighbours import CacheAware, StickyLeastLoaded
from tests.bench.router_policy import POLICIES
from tests.policy.load import Load
from tests.policy.simulation import Machine, Result, Simulation

ROOMY, TIGHT = Machine(cache=60_000), Machine(cache=30_000)
LOAD = Load(conversations=3)
TUNED = partial(CacheAware, 0.5, 8, 1.1)


@cache
def run(make: Callable[[], Fleet], machine: Machine, replicas: int = 1, load: Load = LOAD) -> Result:
    return Simulation(make, load, machine, replicas).run()


@pytest.mark.parametrize(("machine", "bar"), [(ROOMY, 85.5), (TIGHT, 73.0)])
def test_the_hit_ratio_holds_its_bar_without_a_session_header(machine: Machine, bar: float) -> None:
    assert run(PrefixAware, machine).percent("engine") >= bar


@pytest.mark.parametrize("machine", [ROOMY, TIGHT])
@pytest.mark.parametrize("other", [RoundRobin, SessionAffinity, TUNED])
def test_the_default_policy_is_faster_than_others(machine: Machine, other: Callable[[], Fleet]) -> None:
    assert run(PrefixAware, machine).ttft < run(other, machine).ttft


def test_under_pressure_it_is_faster_than_sessions_that_stick_by_a_header() -> None:
    sticky = run(StickyLeastLoaded, TIGHT, load=Load(session=True))

    assert run(PrefixAware, TIGHT, load=Load()).ttft < sticky.ttft


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_that_share_nothing_cost_little(replicas: int) -> None:
    alone = run(PrefixAware, ROOMY)

    assert run(PrefixAware, ROOMY, replicas).percent("engine") > 0.94 * alone.percent("engine")


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_that_the_bench_compares_plays_a_load(name: str) -> None:
    make, load = POLICIES[name]
    short = replace(load, users=6, conversations=1, rounds=2)

    assert len(run(make, TIGHT, load=short).waits) == 12


def test_expectations_come_true() -> None:
    result = run(PrefixAware, ROOMY)
    expected = sum(tokens.engine for tokens in result.expected)
    served = sum(tokens.engine for tokens in result.served)

    assert abs(expected - served) < 0.1 * served


def test_a_shared_tier_serves_what_engines_had_to_forget() -> None:
    shared = run(PrefixAware, Machine(cache=30_000, shared=2_000_000))

    assert shared.percent("compute") < 0.6 * run(PrefixAware, TIGHT).percent("compute")
    assert shared.ttft < run(PrefixAware, TIGHT).ttft


def test_what_is_loaded_beside_prefills_holds_nobody_up() -> None:
    busy = replace(LOAD, users=96, conversations=2)
    machine = Machine(cache=30_000, shared=2_000_000)
    beside = run(PrefixAware, replace(machine, beside=True), load=busy)

    assert beside.percent("shared") > 30
    assert beside.ttft < run(PrefixAware, machine, load=busy).ttft
