"""Simulated multi-round question answering: the bars that the default policy must hold."""

from collections.abc import Callable

from llmcache_runtime.policy import Fleet, LeastLoaded, PrefixAware, Prices, RoundRobin, SessionAffinity
from tests.policy.simulation import Load, Machine, Result, Simulation

ROOMY, TIGHT = Machine(cache=100_000), Machine(cache=30_000)
LOAD = Load(users=32, conversations=2)


def run(make: Callable[[], Fleet], machine: Machine, replicas: int = 1) -> Result:
    return Simulation(make, LOAD, machine, replicas).run()


def unshared() -> PrefixAware:
    return PrefixAware(Prices(reload_ratio=1.0))


def test_the_default_policy_hits_nearly_what_one_endless_engine_would() -> None:
    ideal = run(RoundRobin, Machine(engines=1, cache=10**9))
    ours = run(unshared, ROOMY)

    assert ours.percent("engine") > 0.97 * ideal.percent("engine")


def test_the_default_policy_beats_the_simple_ones_in_hits_and_time() -> None:
    for machine in (ROOMY, TIGHT):
        ours = run(unshared, machine)
        for other in (RoundRobin, LeastLoaded, SessionAffinity):
            theirs = run(other, machine)

            assert ours.percent("engine") > theirs.percent("engine")
            assert ours.ttft < theirs.ttft


def test_replicas_that_share_nothing_cost_little() -> None:
    alone = run(unshared, ROOMY)
    for replicas in (2, 4):
        assert run(unshared, ROOMY, replicas).percent("engine") > 0.95 * alone.percent("engine")


def test_expectations_come_true() -> None:
    result = run(unshared, ROOMY)
    expected = sum(tokens.engine for tokens in result.expected)
    served = sum(tokens.engine for tokens in result.served)

    assert abs(expected - served) < 0.1 * served
