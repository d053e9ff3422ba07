"""Leader election: one leads, the others wait, and whoever can't renew stops in time. Time is simulated."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING

import pytest

from llmcache_operator.edge.errors import ApiError
from llmcache_operator.edge.lease import DURATION, RENEW_DEADLINE, Elector, LeaseLostError

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

pytestmark = pytest.mark.looptime


class LeaseServer:
    """Holds one Lease, with optimistic locking; `error` is what every call gets instead."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.error: ApiError | None = None
        self.lose_answers = False
        self.hang = False
        self.writes = 0

    async def get_lease(self, namespace: str, name: str) -> Json:
        await self._maybe_fail()
        if self.lease is None:
            raise ApiError(404, "NotFound", "no lease")
        return copy.deepcopy(self.lease)

    async def create_lease(self, lease: Json) -> Json:
        await self._maybe_fail()
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "it exists")
        return self._store(lease, "1")

    async def replace_lease(self, lease: Json) -> Json:
        await self._maybe_fail()
        assert self.lease is not None
        version = self.lease["metadata"]["resourceVersion"]
        if lease["metadata"]["resourceVersion"] != version:
            raise ApiError(409, "Conflict", "modified")
        return self._store(lease, str(int(version) + 1))

    def _store(self, lease: Json, version: str) -> Json:
        self.writes += 1
        self.lease = copy.deepcopy(lease)
        self.lease["metadata"]["resourceVersion"] = version
        if self.lose_answers:
            raise ApiError(0, "Unreachable", "the answer was lost")
        return copy.deepcopy(self.lease)

    async def _maybe_fail(self) -> None:
        if self.hang:
            await asyncio.sleep(3600)
        if self.error:
            raise self.error

    @property
    def spec(self) -> Json:
        assert self.lease is not None
        spec: Json = self.lease["spec"]
        return spec


def elector(server: LeaseServer, identity: str) -> Elector:
    return Elector(server, "ns", "lease", identity)  # type: ignore[arg-type]


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_first_leads_at_once_and_says_so_on_the_lease() -> None:
    server = LeaseServer()

    await elector(server, "one").acquire()

    assert now() == 0
    assert server.spec["holderIdentity"] == "one"
    assert server.spec["leaseDurationSeconds"] == DURATION
    assert server.spec["leaseTransitions"] == 0


async def test_the_second_leads_once_the_first_is_silent_for_the_duration() -> None:
    server = LeaseServer()
    await elector(server, "one").acquire()

    await elector(server, "two").acquire()

    assert DURATION <= now() <= DURATION + 2
    assert server.spec["holderIdentity"] == "two"
    assert server.spec["leaseTransitions"] == 1


async def test_the_second_waits_as_long_as_the_first_renews() -> None:
    server, first, second = LeaseServer(), None, None
    first, second = elector(server, "one"), elector(server, "two")
    await first.acquire()
    holding = asyncio.create_task(first.hold())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(300):
            await second.acquire()

    assert not holding.done()
    holding.cancel()


async def test_a_released_lease_is_taken_without_a_wait() -> None:
    server = LeaseServer()
    first = elector(server, "one")
    await first.acquire()

    await first.release()
    await elector(server, "two").acquire()

    assert now() == 0
    assert server.spec["holderIdentity"] == "two"


async def test_only_the_holder_releases() -> None:
    server = LeaseServer()
    await elector(server, "one").acquire()

    await elector(server, "two").release()

    assert server.spec["holderIdentity"] == "one"


@pytest.mark.parametrize("trouble", ["error", "hang"])
async def test_who_cannot_renew_stops_before_another_may_lead(trouble: str) -> None:
    server = LeaseServer()
    first = elector(server, "one")
    await first.acquire()

    if trouble == "error":
        server.error = ApiError(503, "ServiceUnavailable", "away")
    else:
        server.hang = True
    with pytest.raises(LeaseLostError, match="could not be renewed"):
        await first.hold()

    assert RENEW_DEADLINE <= now() < DURATION


async def test_a_short_outage_costs_nothing() -> None:
    server = LeaseServer()
    first = elector(server, "one")
    await first.acquire()
    holding = asyncio.create_task(first.hold())

    server.error = ApiError(0, "Unreachable", "away")
    await asyncio.sleep(RENEW_DEADLINE - 3)
    server.error = None
    await asyncio.sleep(60)

    assert not holding.done()
    holding.cancel()


async def test_a_renewal_whose_answer_was_lost_is_still_ours() -> None:
    server = LeaseServer()
    first = elector(server, "one")
    await first.acquire()
    holding = asyncio.create_task(first.hold())

    server.lose_answers = True
    await asyncio.sleep(5)
    server.lose_answers = False
    await asyncio.sleep(60)

    assert not holding.done()
    holding.cancel()


async def test_who_lost_the_lease_to_another_ends() -> None:
    server = LeaseServer()
    first = elector(server, "one")
    await first.acquire()
    assert server.lease is not None
    server.lease["spec"]["holderIdentity"] = "two"
    server.lease["metadata"]["resourceVersion"] = "77"

    with pytest.raises(LeaseLostError, match="taken by two"):
        await first.hold()


async def test_a_deleted_lease_is_made_again() -> None:
    server = LeaseServer()
    first = elector(server, "one")
    await first.acquire()
    holding = asyncio.create_task(first.hold())

    server.lease = None
    server.error = ApiError(404, "NotFound", "no lease")
    await asyncio.sleep(3)
    server.error = None
    await asyncio.sleep(10)

    assert server.spec["holderIdentity"] == "one"
    holding.cancel()


async def test_one_renewal_is_one_request() -> None:
    server = LeaseServer()
    first = elector(server, "one")
    await first.acquire()
    holding = asyncio.create_task(first.hold())

    await asyncio.sleep(21)

    assert server.writes == 11
    holding.cancel()


async def test_readiness_follows_what_is_heard_of_the_api_server() -> None:
    server = LeaseServer()
    first = elector(server, "one")
    assert first.why_unheard()

    await first.acquire()
    assert not first.why_unheard()

    await asyncio.sleep(DURATION + 1)
    assert "has not answered for 16 s" in first.why_unheard()


async def test_writes_are_fenced_from_when_another_may_lead() -> None:
    server = LeaseServer()
    first = elector(server, "one")
    with pytest.raises(ApiError, match="NotLeading"):
        first.check()

    await first.acquire()
    await asyncio.sleep(DURATION - 1)
    first.check()

    await asyncio.sleep(1)
    with pytest.raises(ApiError, match="NotLeading"):
        first.check()
