"""A password is made up once, and nobody changes it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.values import Plan
from llmcache_operator.edge.applying import SECRET_PAUSE, Application
from llmcache_operator.edge.errors import ApiError
from llmcache_operator.edge.memory import Memory
from llmcache_operator.edge.metrics import Metrics
from tests.edge.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json
    from tests.edge.fake_cluster import Call

SECRET: Json = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "chat-valkey", "namespace": "ns"},
    "stringData": {"password": ""},
}


async def made_sure(cluster: FakeCluster, memory: Memory, now: float) -> Application:
    application = Application(cluster, Metrics(), memory, now, {})
    await application.carry_out(Plan((), (), (SECRET,)), {})
    return application


async def password(cluster: FakeCluster) -> str:
    held = await cluster.read(SECRET)
    assert held is not None
    return str(held["stringData"]["password"])


async def test_a_password_is_made_up_once_also_by_an_operator_that_knows_of_nothing() -> None:
    cluster, memory = FakeCluster(), Memory("uid")
    await made_sure(cluster, memory, 1000.0)
    first = await password(cluster)
    await made_sure(cluster, memory, 1001.0)
    await made_sure(cluster, Memory("uid"), 1002.0)

    assert len(first) >= 32
    assert await password(cluster) == first
    assert [call.verb for call in cluster.calls] == ["create", "create"], "one of each process, and none between"


async def test_a_password_that_somebody_deleted_is_made_up_anew() -> None:
    cluster, memory = FakeCluster(), Memory("uid")
    await made_sure(cluster, memory, 1000.0)
    first = await password(cluster)
    cluster.remove(SECRET)
    await made_sure(cluster, memory, 1000.0 + SECRET_PAUSE)

    assert await password(cluster) != first


async def test_a_secret_that_can_not_be_made_is_told_as_a_refused_child() -> None:
    def refuse(call: Call, when: str) -> None:
        if when == "before":
            raise ApiError(403, "Forbidden", 'User "x" cannot create resource "secrets"')

    found = await made_sure(FakeCluster(fault=refuse), Memory("uid"), 1000.0)

    assert [rejection.ref.kind for rejection in found.rejections] == ["Secret"]
    assert found.rejections[0].code == 403
