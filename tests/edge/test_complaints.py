"""Events of pods that don't start: read when there is such a pod, and never otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmcache_operator.edge.complaints import AGAIN
from llmcache_operator.edge.errors import ApiError
from tests.edge.scenario import KEY, World, service

if TYPE_CHECKING:
    import pytest

    from llmcache_operator.core.values import Json

NOTE = 'MountVolume.SetUp failed for volume "tls" : secret "chat-tls" not found'


def stuck(world: World, ago: float = 20) -> Json:
    """A router's pod that waits for its volume."""
    started = datetime.fromtimestamp(world.now - ago, UTC).isoformat()
    waiting = {"name": "router", "state": {"waiting": {"reason": "ContainerCreating"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "chat-router-0",
            "namespace": KEY.namespace,
            "uid": "uid-pod",
            "labels": {"app.kubernetes.io/component": "router"},
        },
        "status": {"phase": "Pending", "startTime": started, "containerStatuses": [waiting]},
    }


def event(world: World, **times: Any) -> Json:
    return {"note": NOTE, "eventTime": None} | times | {"type": "Warning", "reason": "FailedMount"}


async def test_a_missing_secret_ends_as_stalled_with_its_name() -> None:
    world = World()
    world.cluster.put(service())
    await world.settle()
    pod = stuck(world)
    world.cluster.running.append(pod)
    last = datetime.fromtimestamp(world.now - 2, UTC).isoformat()
    world.cluster.warnings["uid-pod"] = [event(world, deprecatedLastTimestamp=last)]

    due = await world.step()

    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "SecretMissing")
    assert "Secret chat-tls does not exist" in stalled["message"]
    assert due == AGAIN, "Events come without a watch: it has to look again by itself"

    world.cluster.running.clear()
    await world.settle()
    kinds = {c["type"] for c in world.cluster.find("LLMCacheService", "chat")["status"]["conditions"]}
    assert "Stalled" not in kinds


async def test_events_are_read_for_pods_that_do_not_start_only(monkeypatch: pytest.MonkeyPatch) -> None:
    world, asked = World(), []

    async def warnings_about(pod: Json) -> list[Json]:
        asked.append(pod["metadata"]["name"])
        return []

    monkeypatch.setattr(world.cluster, "warnings_about", warnings_about)
    world.cluster.put(service())
    await world.settle()
    runs = stuck(world)
    runs["status"]["containerStatuses"] = [{"name": "router", "state": {"running": {}}}]
    world.cluster.running.append(runs)
    await world.step()
    assert asked == []

    world.cluster.running[:] = [stuck(world)]
    await world.step()
    assert asked == ["chat-router-0"]


async def test_an_operator_that_may_not_read_events_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def warnings_about(_pod: Json) -> list[Json]:
        raise ApiError(403, "Forbidden", "events are not for you")

    monkeypatch.setattr(world.cluster, "warnings_about", warnings_about)
    world.cluster.put(service())
    await world.settle()
    world.cluster.running.append(stuck(world, ago=90))
    await world.step()

    assert world.condition("Stalled")["reason"] == "PodNotStarting"
