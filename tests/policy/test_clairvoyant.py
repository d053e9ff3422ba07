"""The model of a router that knows the future: it is the same fleet, and what it knows helps."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import mean

import pytest

from llmcache_runtime.policy import Pick, PrefixAware, Prices
from tests.bench.router_bound import Clairvoyant, Play, begin, clairvoyant, ordinary
from tests.policy.load import Load
from tests.policy.simulation import Machine, Simulation

BLIND = partial(PrefixAware, Prices(shared=False))
SMALL = Load(users=20, conversations=1, rounds=4)
PAIR = Machine(engines=2, cache=14_000, shared=2_000_000)


@pytest.mark.parametrize(("make", "price"), [(BLIND, False), (PrefixAware, True)])
def test_without_foresight_it_is_the_simulated_fleet(make: Callable[[], PrefixAware], price: bool) -> None:  # noqa: FBT001
    load, machine = Load(conversations=3), Machine(cache=30_000, shared=2_000_000)
    simulated = Simulation(make, load, machine, price=price).run()
    played = ordinary(make, load, machine, price=price)

    assert len(played.waits) == len(simulated.waits)
    assert played.percent("engine") == pytest.approx(simulated.percent("engine"), abs=3)
    assert played.percent("compute") == pytest.approx(simulated.percent("compute"), abs=1)
    assert played.ttft == pytest.approx(simulated.ttft, rel=0.12)


def test_where_there_is_nothing_to_choose_knowing_the_future_changes_nothing() -> None:
    one = Machine(engines=1, cache=10**7, shared=2_000_000)

    assert clairvoyant(PrefixAware, SMALL, one).waits == ordinary(PrefixAware, SMALL, one).waits


def test_knowing_the_future_makes_a_busy_fleet_faster() -> None:
    loads = [replace(SMALL, seed=seed) for seed in range(1, 5)]
    known = mean(clairvoyant(PrefixAware, load, PAIR).ttft for load in loads)

    assert known < 0.97 * mean(ordinary(PrefixAware, load, PAIR).ttft for load in loads)


def test_looking_at_the_future_does_not_change_it() -> None:
    class Idle(Clairvoyant):
        def _decide(self, user: int, number: int) -> Pick:
            super()._decide(user, number)
            return Play._decide(self, user, number)

    looked = Idle(*begin(PrefixAware, SMALL, PAIR, price=True)).run()

    assert looked.waits == ordinary(PrefixAware, SMALL, PAIR).waits


def test_a_copy_of_a_moment_has_the_same_future() -> None:
    script, moment = begin(PrefixAware, SMALL, PAIR, price=True)
    copy = pickle.loads(pickle.dumps(moment))  # noqa: S301 (our own, just made)

    assert Play(script, copy).run().waits == Play(script, moment).run().waits
