"""Events: one per transition, repeated ones counted up, and never a reason to fail."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from llmcache_operator.core.values import Transition
from llmcache_operator.edge.errors import ApiError
from llmcache_operator.edge.events import INSTANCE_LIMIT, NOTE_LIMIT, REMEMBERED, SERIES_WINDOW, Recorder
from tests.edge.fake_cluster import Call, FakeCluster

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

RESOURCE = {
    "apiVersion": "llmcache.dev/v1alpha1",
    "kind": "LLMCacheService",
    "metadata": {"name": "chat", "namespace": "ns", "uid": "uid-1"},
}
READY = Transition("Normal", "Available", "2 of 2 engines ready")
STALLED = Transition("Warning", "Unschedulable", "no GPU")


class World:
    """A cluster and a clock."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.now = 1_800_000_000.25
        self.recorder = Recorder(self.cluster, "operator-0", lambda: self.now)

    async def post(self, transition: Transition, after: float = 0.0) -> Json:
        self.now += after
        await self.recorder.post(RESOURCE, transition)
        return self.cluster.events[-1]


async def test_an_event_regards_the_resource_and_says_who_reports() -> None:
    event = await World().post(READY)

    assert event["regarding"] == {
        "apiVersion": "llmcache.dev/v1alpha1",
        "kind": "LLMCacheService",
        "name": "chat",
        "namespace": "ns",
        "uid": "uid-1",
    }
    assert (event["type"], event["reason"], event["note"]) == ("Normal", "Available", "2 of 2 engines ready")
    assert (event["reportingController"], event["reportingInstance"]) == ("llmcache.dev/operator", "operator-0")
    assert datetime.fromisoformat(event["eventTime"]).timestamp() == 1_800_000_000.25
    assert "series" not in event


async def test_an_equal_event_soon_after_counts_up_the_first() -> None:
    world = World()
    first = await world.post(READY)
    await world.post(STALLED, after=10)

    again = await world.post(READY, after=10)
    third = await world.post(READY, after=SERIES_WINDOW - 1)

    assert again["metadata"]["name"] == third["metadata"]["name"] == first["metadata"]["name"]
    assert again["eventTime"] == first["eventTime"]
    assert [again["series"]["count"], third["series"]["count"]] == [2, 3]


async def test_an_equal_event_long_after_is_a_new_one() -> None:
    world = World()
    first = await world.post(READY)

    again = await world.post(READY, after=SERIES_WINDOW + 1)

    assert again["metadata"]["name"] != first["metadata"]["name"]
    assert "series" not in again


async def test_events_that_differ_in_numbers_only_are_equal() -> None:
    world = World()
    first = await world.post(Transition("Normal", "Available", "2 of 2 engines ready"))
    other = await world.post(Transition("Normal", "Available", "1 of 1 LMCache servers ready"))

    again = await world.post(Transition("Normal", "Available", "3 of 3 engines ready"))

    assert other["metadata"]["name"] != first["metadata"]["name"]
    assert again["metadata"]["name"] == first["metadata"]["name"]
    assert (again["series"]["count"], again["note"]) == (2, first["note"])


@pytest.mark.parametrize("letter", ["x", "é", "漢"])
async def test_a_note_is_cut_to_the_bytes_that_the_api_server_takes(letter: str) -> None:
    event = await World().post(Transition("Warning", "Unschedulable", letter * 5000))

    assert NOTE_LIMIT - 2 <= len(event["note"].encode()) <= NOTE_LIMIT


async def test_a_long_name_of_a_process_is_cut_too() -> None:
    world = World()
    world.recorder = Recorder(world.cluster, "pod-" * 60, lambda: world.now)

    assert len((await world.post(READY))["reportingInstance"]) == INSTANCE_LIMIT


async def test_an_event_that_cannot_be_written_is_logged_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    def refuse(_call: Call, _when: str) -> None:
        raise ApiError(403, "Forbidden", "cannot create events")

    world.cluster.fault = refuse
    await world.recorder.post(RESOURCE, READY)

    assert "cannot create events" in caplog.text


async def test_memory_of_events_is_bounded() -> None:
    world = World()
    first = await world.post(READY)
    for number in range(REMEMBERED):
        await world.post(Transition("Normal", f"Other{number}", "no news"))

    again = await world.post(READY)

    assert again["metadata"]["name"] != first["metadata"]["name"]
