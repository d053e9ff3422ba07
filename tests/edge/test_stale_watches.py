"""Watches lag, and a restarted process may be shown an older past: no write storm, no lie, the same end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.edge.scenario import KEY, World, service

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json, ServiceKey
    from tests.edge.fake_cluster import FakeCluster


@dataclass
class FrozenWatches:
    """A `View` of the past: what was there when `show` was called last."""

    cluster: FakeCluster
    _services: list[Json] = field(default_factory=list)
    _children: list[Json] = field(default_factory=list)

    def show(self) -> None:
        """Catch up."""
        resource = self.cluster.service(KEY)
        self._services = [resource] if resource else []
        self._children = list(self.cluster.children(resource["metadata"]["uid"])) if resource else []

    def service(self, key: ServiceKey) -> Json | None:
        """See `View`."""
        return self._services[0] if self._services else None

    def children(self, uid: str) -> tuple[Json, ...]:
        """See `View`."""
        return tuple(self._children)

    def pods(self, key: ServiceKey) -> tuple[Json, ...]:
        """See `View`."""
        return ()


def _frozen(world: World) -> FrozenWatches:
    watches = FrozenWatches(world.cluster)
    watches.show()
    world.reconciler.view = watches
    return watches


def _ready(resource: Json) -> tuple[str, int]:
    conditions = {condition["type"]: condition for condition in resource["status"]["conditions"]}
    return conditions["Ready"]["status"], resource["status"]["observedGeneration"]


async def test_own_writes_are_not_repeated_before_the_watch_shows_them() -> None:
    world = World()
    world.cluster.put(service())
    _frozen(world)
    await world.step()
    world.cluster.calls.clear()

    for _ in range(10):
        world.now += 0.1
        await world.step()

    assert world.cluster.calls == []


async def test_a_child_that_the_watch_never_shows_is_applied_again() -> None:
    world = World()
    world.cluster.put(service())
    _frozen(world)
    await world.step()
    lost = world.cluster.find("StatefulSet", "chat-cache")
    world.cluster.remove(lost)

    due = await world.step()
    assert due is not None
    world.now += due + 0.1
    await world.step()

    assert world.cluster.find("StatefulSet", "chat-cache")["metadata"]["uid"] != lost["metadata"]["uid"]


async def test_a_new_generation_is_not_called_ready_while_the_watch_shows_the_old_rollout() -> None:
    world = World()
    world.cluster.put(service())
    await world.settle()
    watches = _frozen(world)
    assert _ready(world.cluster.find("LLMCacheService", "chat")) == ("True", 1)

    resource = world.cluster.put(service(engine={"replicas": 2, "image": "engine:2"}))
    watches._services = [resource]
    await world.step()

    ready, generation = _ready(world.cluster.find("LLMCacheService", "chat"))
    assert (ready, generation) == ("False", 2)


async def test_an_event_is_posted_once_although_the_watch_shows_the_old_status() -> None:
    world = World()
    world.cluster.put(service())
    _frozen(world)
    await world.step()
    posted = len(world.cluster.events)

    for _ in range(5):
        world.now += 0.1
        await world.step()

    assert posted > 0
    assert len(world.cluster.events) == posted


async def test_a_process_that_starts_from_an_older_past_ends_in_the_present() -> None:
    world = World()
    world.cluster.put(service())
    await world.settle()
    past = FrozenWatches(world.cluster)
    past.show()
    world.cluster.put(service(engine={"replicas": 5}, networkPolicy="Disabled"))
    await world.settle()
    expected = world.end_state()

    world.restart()
    world.reconciler.view = past
    await world.step()
    world.reconciler.view = world.cluster
    await world.settle()

    assert world.end_state() == expected


async def test_another_service_of_the_same_name_starts_without_memories() -> None:
    world = World()
    world.cluster.put(service())
    await world.settle()
    expected = world.end_state()
    before = {obj["metadata"]["uid"] for obj in world.cluster.objects()}

    world.cluster.remove(world.cluster.find("LLMCacheService", "chat"))
    world.cluster.put(service())
    await world.settle()

    assert world.end_state() == expected
    assert before.isdisjoint(obj["metadata"]["uid"] for obj in world.cluster.objects())


async def test_a_restart_does_not_wipe_what_was_measured_before_it() -> None:
    world = World()
    world.cluster.put(service())
    await world.settle()
    resource = world.cluster.find("LLMCacheService", "chat")
    measured = {**resource["status"], "cache": {**resource["status"]["cache"], "hitRatePercent": 71}}
    await world.cluster.apply_status(resource, measured)

    world.restart()
    await world.step()

    assert world.cluster.find("LLMCacheService", "chat")["status"]["cache"]["hitRatePercent"] == 71
