"""Engines that come, go, drain and change."""

import asyncio

from llmcache_runtime.router.engines import Endpoint
from llmcache_runtime.router.forward import ForwardSettings
from tests.fakes.engine import Served
from tests.router.conftest import StackMaker, chat, events, until

CHAT = "/v1/chat/completions"


def endpoint(served: Served, **more: bool) -> Endpoint:
    name = served.engine.name
    return Endpoint(name, name, "127.0.0.1", served.port, **more)


async def test_a_draining_engine_ends_its_streams_and_gets_no_new_request(make_stack: StackMaker) -> None:
    stack = await make_stack(2, policy="RoundRobin")
    old, new = stack.engines
    stack.router.engines.apply([endpoint(old)])
    stream = asyncio.create_task(stack.client.post(CHAT, json=chat(stream=True, max_tokens=60)))
    await until(lambda: old.engine.running == 1)
    stack.router.engines.apply([endpoint(old, draining=True), endpoint(new)])
    for _ in range(4):
        await stack.client.post(CHAT, json=chat())

    assert events((await stream).text)[-1] == "[DONE]"
    assert (len(old.engine.requests), len(new.engine.requests)) == (1, 4)


async def test_an_engine_that_left_ends_its_streams(make_stack: StackMaker) -> None:
    stack = await make_stack(2)
    old, new = stack.engines
    stack.router.engines.apply([endpoint(old)])
    stream = asyncio.create_task(stack.client.post(CHAT, json=chat(stream=True, max_tokens=60)))
    await until(lambda: old.engine.running == 1)
    stack.router.engines.apply([endpoint(new)])
    text = (await stream).text
    metrics = (await stack.client.get(f"{stack.private}/metrics")).text

    assert events(text)[-1] == "[DONE]"
    assert 'engine="engine-0"' not in metrics


async def test_an_engine_that_is_not_ready_gets_nothing(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    stack.router.engines.apply([endpoint(stack.engines[0], serving=False)])
    answer = await stack.client.post(CHAT, json=chat())

    assert answer.status_code == 503
    assert stack.engines[0].engine.requests == []


async def test_a_pod_with_the_same_address_and_a_new_uid_starts_with_nothing(make_stack: StackMaker) -> None:
    stack = await make_stack(1, forward=ForwardSettings(debug_headers=True))
    served = stack.engines[0]
    await stack.client.post(CHAT, json=chat("x" * 4096))
    stack.router.engines.apply([Endpoint("uid-2", "engine-0", "127.0.0.1", served.port)])
    answer = await stack.client.post(CHAT, json=chat("x" * 4096))

    assert answer.headers["x-llmcache-tiers"].startswith("engine=0")


async def test_the_private_port_tells_what_it_knows(make_stack: StackMaker) -> None:
    stack = await make_stack(2)
    await stack.client.post(CHAT, json=chat(stream=True))
    healthy = await stack.client.get(f"{stack.private}/healthz")
    ready = await stack.client.get(f"{stack.private}/readyz")
    page = (await stack.client.get(f"{stack.private}/debug/engines")).json()
    missing = await stack.client.get(f"{stack.private}/v1/models")
    public = await stack.client.get("/metrics")

    assert (healthy.status_code, ready.status_code) == (200, 200)
    assert [(e["name"], e["ejected"], e["running"]) for e in page] == [("engine-0", False, 0), ("engine-1", False, 0)]
    assert (missing.status_code, public.status_code) == (404, 404)
    assert await stack.metric('llmcache_router_requests_total{path="/v1/chat/completions",status="200"}') == 1
    (name,) = (served.engine.name for served in stack.engines if served.engine.requests)
    first = f'llmcache_router_time_to_first_token_seconds_count{{engine="{name}",expected="compute"}}'
    assert await stack.metric(first) == 1
    assert await stack.metric(f'llmcache_router_inter_token_seconds_count{{engine="{name}"}}') == 3
    assert await stack.metric('llmcache_router_picks_total{reason="home"}') == 1


async def test_a_router_without_endpoints_is_not_ready(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    stack.router.engines.synced = False
    answer = await stack.client.get(f"{stack.private}/readyz")

    assert answer.status_code == 503
