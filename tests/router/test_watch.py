"""Following the EndpointSlices of a Service."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmcache_runtime.router.engines import Endpoint
from llmcache_runtime.router.kube import Api
from llmcache_runtime.router.watch import EndpointSliceWatch
from tests.fakes.kube_api import KubeApi
from tests.router.conftest import until
from tests.router.test_endpointslices import pod, slice_of


class Seen:
    """The endpoints last told."""

    def __init__(self) -> None:
        self.told: list[list[Endpoint]] = []

    def __call__(self, endpoints: list[Endpoint]) -> None:
        self.told.append(endpoints)

    def names(self) -> list[str]:
        return sorted(e.name for e in self.told[-1]) if self.told else []


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApi]:
    fake = KubeApi()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def seen(api: KubeApi, tmp_path: Path) -> AsyncIterator[Seen]:
    token = tmp_path / "token"
    token.write_text("first\n")
    told = Seen()
    watch = EndpointSliceWatch(Api(api.url, None, token), "ns", "chat-engine", told)
    api.put(slice_of(pod("a", "10.0.0.1", ready=True)))
    task = asyncio.create_task(watch.run(backoff=0.01))
    await until(lambda: len(api.watches) == 1)
    yield told
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_changes_are_told_as_they_come(api: KubeApi, seen: Seen) -> None:
    assert seen.names() == ["a"]
    api.put(slice_of(pod("b", "10.0.0.2", ready=True), name="second"))
    await until(lambda: seen.names() == ["a", "b"])
    api.delete("s")
    await until(lambda: seen.names() == ["b"])

    assert set(api.selectors) == {"kubernetes.io/service-name=chat-engine"}
    assert api.lists == 1


async def test_a_watch_that_ends_goes_on_from_the_last_version_without_a_new_list(api: KubeApi, seen: Seen) -> None:
    api.bookmark()
    api.end_watches()
    await until(lambda: len(api.watches) == 1)
    api.put(slice_of(pod("b", "10.0.0.2", ready=True), name="second"))
    await until(lambda: seen.names() == ["a", "b"])

    assert api.lists <= 2


async def test_a_version_too_old_leads_to_a_new_list(api: KubeApi, seen: Seen) -> None:
    api.objects["s"] = slice_of(pod("missed", "10.0.0.7", ready=True))
    api.expire()
    await until(lambda: seen.names() == ["missed"])

    assert api.lists == 2


async def test_errors_of_the_api_are_outlived_with_what_was_known(api: KubeApi, seen: Seen) -> None:
    api.failing = 3
    api.end_watches()
    await until(lambda: api.failing == 0)

    assert seen.names() == ["a"]
    await until(lambda: len(api.watches) == 1)
    api.put(slice_of(pod("b", "10.0.0.2", ready=True), name="second"))
    await until(lambda: seen.names() == ["a", "b"])


async def test_a_rotated_token_is_used(api: KubeApi, seen: Seen, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("second\n")
    api.expire()
    await until(lambda: "bearer second" in api.tokens)

    assert api.tokens[0] == "bearer first"
