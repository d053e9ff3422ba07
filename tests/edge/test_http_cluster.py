"""What the operator sends to an API server, and what it makes of the answers, against a server on loopback."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientTimeout, web
from kubernetes.aio.client import ApiClient, Configuration

from llmcache_operator.edge import cluster as cluster_module
from llmcache_operator.edge.cluster import HttpCluster, path_of
from llmcache_operator.edge.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from llmcache_operator.core.values import Json

META = {"name": "chat", "namespace": "ns", "uid": "uid-1"}
SERVICE = {"apiVersion": "llmcache.dev/v1alpha1", "kind": "LLMCacheService", "metadata": META}
CHILD = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": META, "spec": {}}


async def admit() -> None:
    """Let every write pass."""


class Server:
    """Notes requests; answers with `answer`."""

    def __init__(self) -> None:
        self.requests: list[Json] = []
        self.answer: Callable[[], web.StreamResponse] = lambda: web.json_response({"kind": "Deployment"})
        self.delay = 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.requests.append(
            {
                "method": request.method,
                "path": request.path,
                "query": dict(request.query),
                "type": request.headers.get("Content-Type"),
                "auth": request.headers.get("Authorization"),
                "body": json.loads(text) if text else None,
            }
        )
        await asyncio.sleep(self.delay)
        return self.answer()

    def refuse(self, code: int, status: Any, **headers: str) -> None:
        text = status if isinstance(status, str) else json.dumps(status)
        self.answer = lambda: web.Response(status=code, text=text, headers=headers)


@asynccontextmanager
async def connected(server: Server, admit: Callable[[], Awaitable[None]] = admit) -> AsyncIterator[HttpCluster]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    configuration.api_key["BearerToken"] = "bearer secret"
    try:
        async with ApiClient(configuration) as client:
            yield HttpCluster(client, admit)
    finally:
        await runner.cleanup()


async def test_children_are_applied_server_side_forced_and_in_our_name() -> None:
    server = Server()
    async with connected(server) as cluster:
        assert await cluster.apply(CHILD) == {"kind": "Deployment"}

    assert server.requests == [
        {
            "method": "PATCH",
            "path": "/apis/apps/v1/namespaces/ns/deployments/chat",
            "query": {"fieldManager": "llmcache-operator", "force": "true"},
            "type": "application/apply-patch+yaml",
            "auth": "bearer secret",
            "body": CHILD,
        }
    ]


async def test_the_status_goes_to_its_subresource_with_nothing_else_and_to_this_object_only() -> None:
    server = Server()
    async with connected(server) as cluster:
        await cluster.apply_status({**SERVICE, "spec": {"model": {}}, "status": {"old": 1}}, {"new": 2})

    request = server.requests[0]
    assert request["path"] == "/apis/llmcache.dev/v1alpha1/namespaces/ns/llmcacheservices/chat/status"
    assert request["query"] == {"fieldManager": "llmcache-operator-status", "force": "true"}
    assert request["body"] == {**SERVICE, "status": {"new": 2}}


async def test_warnings_are_asked_for_by_the_uid_of_the_pod() -> None:
    server = Server()
    server.answer = lambda: web.json_response({"items": [{"note": "no"}]})
    async with connected(server) as cluster:
        assert await cluster.warnings_about({"kind": "Pod", "metadata": META}) == [{"note": "no"}]

    assert server.requests[0]["path"] == "/apis/events.k8s.io/v1/namespaces/ns/events"
    assert server.requests[0]["query"] == {"fieldSelector": "regarding.uid=uid-1,type=Warning", "limit": "50"}


async def test_deletion_names_the_very_object() -> None:
    server = Server()
    async with connected(server) as cluster:
        await cluster.delete(CHILD)

    assert server.requests[0]["method"] == "DELETE"
    assert server.requests[0]["body"] == {"preconditions": {"uid": "uid-1"}, "propagationPolicy": "Background"}


async def test_what_is_gone_is_deleted_and_not_read() -> None:
    server = Server()
    server.refuse(404, {"kind": "Status", "reason": "NotFound", "message": "gone"})
    async with connected(server) as cluster:
        await cluster.delete(CHILD)
        assert await cluster.read(CHILD) is None


async def test_a_refusal_says_what_the_server_said() -> None:
    server = Server()
    details = {"kind": "deployments", "retryAfterSeconds": 3}
    status = {"kind": "Status", "reason": "Invalid", "message": "spec.selector: immutable", "details": details}
    server.refuse(422, status)
    async with connected(server) as cluster:
        with pytest.raises(ApiError, match=r"422 Invalid: spec\.selector: immutable") as caught:
            await cluster.apply(CHILD)

    assert (caught.value.code, caught.value.reason, caught.value.retry_after) == (422, "Invalid", 3.0)
    assert not caught.value.transient


@pytest.mark.parametrize("body", ["", "<html>bad gateway</html>", "[1]", '"text"'])
async def test_an_answer_that_is_no_status_object_is_still_an_error(body: str) -> None:
    server = Server()
    server.refuse(502, body, **{"Retry-After": "9"})
    async with connected(server) as cluster:
        with pytest.raises(ApiError, match="502") as caught:
            await cluster.apply(CHILD)

    assert caught.value.transient
    assert caught.value.retry_after == 9.0


async def test_a_server_that_says_nothing_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_TIMEOUT", ClientTimeout(total=0.2))
    server = Server()
    server.delay = 5.0
    async with connected(server) as cluster:
        with pytest.raises(ApiError, match="Unreachable") as caught:
            await cluster.apply(CHILD)

    assert caught.value.hits_all


async def test_a_server_that_is_not_there_is_no_surprise() -> None:
    async with ApiClient(Configuration(host="http://127.0.0.1:1")) as client:
        with pytest.raises(ApiError, match="Unreachable"):
            await HttpCluster(client, admit).apply(CHILD)


async def test_only_versions_are_listed_from_the_watch_cache() -> None:
    server = Server()
    items = [{"metadata": {"uid": "a", "resourceVersion": "5"}}]
    server.answer = lambda: web.json_response({"items": items})
    async with connected(server) as cluster:
        assert await cluster.list_versions(("v1", "Pod"), None, "a=b") == {"a": "5"}

    assert server.requests[0]["path"] == "/api/v1/pods"
    assert server.requests[0]["query"] == {"labelSelector": "a=b", "resourceVersion": "0"}


@pytest.mark.parametrize(("code", "there"), [(200, True), (404, False), (403, False)])
async def test_a_kind_is_there_if_it_can_be_listed(code: int, *, there: bool) -> None:
    server = Server()
    if not there:
        server.refuse(code, "404 page not found")
    async with connected(server) as cluster:
        assert await cluster.can_list(("v1", "Pod"), "ns") is there

    assert server.requests[0]["query"] == {"limit": "1"}


async def test_whether_a_kind_is_there_is_not_guessed() -> None:
    server = Server()
    server.refuse(503, "starting")
    async with connected(server) as cluster:
        with pytest.raises(ApiError, match="503"):
            await cluster.can_list(("v1", "Pod"), None)


def test_names_can_not_leave_their_path() -> None:
    assert path_of("v1", "Service", "ns", "../x") == "/api/v1/namespaces/ns/services/..%2Fx"


def test_a_terminating_namespace_is_told_from_a_missing_permission() -> None:
    terminating = {"causes": [{"reason": "NamespaceTerminating"}]}

    assert ApiError(403, "Forbidden", "", details=terminating).namespace_gone
    assert ApiError(404, "NotFound", "", details={"kind": "namespaces"}).namespace_gone
    assert not ApiError(403, "Forbidden", "cannot patch").namespace_gone
    assert not ApiError(404, "NotFound", "", details={"kind": "deployments"}).namespace_gone


async def test_no_write_leaves_that_is_not_admitted() -> None:
    async def refuse() -> None:
        raise ApiError(0, "NotLeading", "the Lease ran out")

    server = Server()
    async with connected(server, refuse) as cluster:
        for write in (cluster.apply(CHILD), cluster.apply_status(SERVICE, {}), cluster.delete(CHILD)):
            with pytest.raises(ApiError, match="NotLeading"):
                await write
        await cluster.read(CHILD)

    assert [request["method"] for request in server.requests] == ["GET"]
