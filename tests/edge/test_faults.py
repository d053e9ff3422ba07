"""Every write of the operator may fail in every way, or be its last: the end is the same and then it is quiet.

The method is Sieve's (OSDI '22): enumerate, and compare the end state with that of a run without faults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmcache_operator.edge.cluster import CHILD_MANAGER
from llmcache_operator.edge.errors import ApiError
from llmcache_operator.edge.watching import OPTIONAL, owner_of
from tests.edge.fake_cluster import Call, Crash
from tests.edge.scenario import SETTINGS, World, service

Change = Callable[[World], None]


def _replace(**spec: Any) -> Change:
    def change(world: World) -> None:
        world.cluster.put(service(**spec))

    return change


def _delete(kind: str, name: str) -> Change:
    def change(world: World) -> None:
        world.cluster.remove(world.cluster.find(kind, name))

    return change


def _edit_by_hand(world: World) -> None:
    live = world.cluster.find("Deployment", "chat-engine")
    world.cluster.put({**live, "spec": {"replicas": 7}, "metadata": {**live["metadata"], "labels": {"mine": "yes"}}})


SCENARIOS: dict[str, Change] = {
    "create": lambda world: None,
    "scale": _replace(engine={"replicas": 5}),
    "scale handed to an autoscaler": _replace(engine={}),
    "other configuration": _replace(cache={"memory": "8Gi", "chunkSize": 512}),
    "other image": _replace(engine={"replicas": 2, "image": "engine:2"}),
    "other model": _replace(model={"uri": "pvc://models/other"}),
    "policies off": _replace(networkPolicy="Disabled"),
    "child deleted by hand": _delete("StatefulSet", "chat-cache"),
    "child edited by hand": _edit_by_hand,
    "deletion": _delete("LLMCacheService", "chat"),
}
ERRORS: dict[str, ApiError] = {
    "timeout": ApiError(0, "Unreachable", "timed out"),
    "unauthorized": ApiError(401, "Unauthorized", "token expired"),
    "forbidden": ApiError(403, "Forbidden", "cannot patch"),
    "conflict": ApiError(409, "Conflict", "the object has been modified"),
    "invalid": ApiError(422, "Invalid", "field is immutable"),
    "too many": ApiError(429, "TooManyRequests", "slow down", retry_after=7.0),
    "broken": ApiError(500, "InternalError", "etcdserver: leader changed"),
    "away": ApiError(503, "ServiceUnavailable", "starting"),
}


async def _prepared(name: str) -> World:
    """The world in which a scenario starts: nothing but the resource, or a service at rest."""
    world = World()
    world.cluster.put(service())
    if name != "create":
        await world.settle()
    return world


async def _run(name: str, fault: Callable[[Call, str], None] | None = None) -> World:
    world = await _prepared(name)
    world.cluster.calls.clear()
    if fault:
        world.cluster.fault = fault
    SCENARIOS[name](world)
    await world.settle()
    return world


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_write_leads_to_the_same_end(scenario: str, when: str) -> None:
    expected = await _run(scenario)

    for number in range(len(expected.cluster.calls)):

        def crash(call: Call, moment: str, number: int = number) -> None:
            if call.number == number and moment == when:
                raise Crash

        world = await _run(scenario, crash)

        assert world.restarts == 1, f"write {number} never came"
        assert world.end_state() == expected.end_state(), f"crash {when} write {number}"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_error_at_any_write_leads_to_the_same_end(scenario: str, error: str, when: str) -> None:
    expected = await _run(scenario)

    for number in range(len(expected.cluster.calls)):

        def fail(call: Call, moment: str, number: int = number) -> None:
            if call.number == number and moment == when:
                raise ERRORS[error]

        world = await _run(scenario, fail)

        assert world.end_state() == expected.end_state(), f"{error} {when} write {number}"


@pytest.mark.parametrize("error", ERRORS)
async def test_an_outage_of_every_write_is_survived(scenario: str, error: str) -> None:
    expected = await _run(scenario)
    world = await _prepared(scenario)
    broken = True

    def fail(_: Call, moment: str) -> None:
        if broken and moment == "before":
            raise ERRORS[error]

    world.cluster.fault = fail
    SCENARIOS[scenario](world)
    for _ in range(5):
        await world.step()
    broken = False
    world.now += 60.0
    await world.settle()

    assert world.end_state() == expected.end_state()


async def test_a_service_at_rest_is_not_written_to(scenario: str) -> None:
    world = await _run(scenario)
    world.cluster.calls.clear()

    for _ in range(20):
        world.now += 15.0
        await world.step()

    assert world.cluster.calls == []


async def test_a_restart_writes_nothing_where_all_is_as_it_should_be(scenario: str) -> None:
    world = await _run(scenario)
    world.cluster.calls.clear()

    world.restart()
    await world.settle()

    assert world.cluster.calls == []


@pytest.mark.parametrize("change", ["other configuration", "policies off", "child edited by hand", "scale"])
async def test_what_changed_while_no_operator_ran_is_made_good(change: str) -> None:
    expected = await _run(change)
    world = await _prepared(change)

    SCENARIOS[change](world)
    world.restart()
    await world.settle()

    assert world.end_state() == expected.end_state()


async def test_what_others_have_under_the_name_of_a_child_is_left_alone_and_told() -> None:
    world = World()
    world.cluster.put(service())
    meta = {"name": "chat-router", "namespace": "ns"}
    theirs = world.cluster.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})

    await world.step()

    assert world.cluster.find("ServiceAccount", "chat-router") == theirs
    assert world.condition("Stalled")["reason"] == "NameTaken"


async def test_an_orphan_of_ours_is_adopted_again() -> None:
    world = World()
    world.cluster.put(service())
    await world.settle()
    orphan = world.cluster.find("Service", "chat-engine")
    world.cluster.remove(world.cluster.find("LLMCacheService", "chat"))
    del orphan["metadata"]["ownerReferences"]
    world.cluster.put(orphan, CHILD_MANAGER)

    resource = world.cluster.put(service())
    await world.settle()

    owner = owner_of(world.cluster.find("Service", "chat-engine"))
    assert owner is not None
    assert owner["uid"] == resource["metadata"]["uid"]


async def test_a_kind_that_vanishes_from_the_cluster_is_nobodys_trouble() -> None:
    world = World(settings=replace(SETTINGS, optional_kinds=frozenset(OPTIONAL)))
    world.cluster.put(service())
    await world.settle()
    monitor = world.cluster.find("PodMonitor", "chat-router")

    def gone(call: Call, _when: str) -> None:
        if call.kind in {kind for _, kind in OPTIONAL}:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")

    world.cluster.fault = gone
    world.cluster.remove(monitor)
    await world.step()

    assert world.condition("Ready")["status"] == "True"
    with pytest.raises(KeyError):
        world.condition("Stalled")


async def test_in_a_namespace_that_is_being_deleted_nothing_is_tried_twice() -> None:
    world = World()
    world.cluster.put(service())

    def terminating(_call: Call, _when: str) -> None:
        raise ApiError(403, "Forbidden", "no", details={"causes": [{"reason": "NamespaceTerminating"}]})

    world.cluster.fault = terminating
    await world.settle()
    await world.step()

    assert len(world.cluster.calls) == 1
