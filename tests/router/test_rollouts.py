"""Nothing is lost while routers and engines are replaced: 1,000 streams through each."""

import asyncio
from collections import Counter
from dataclasses import replace

from llmcache_runtime.router.engines import Endpoint
from tests.fakes.client import End, streams
from tests.fakes.engine import Engine, Served, serve
from tests.router.conftest import Stack, StackMaker, finish, start, until

COUNT = 1000


def endpoint(served: Served) -> Endpoint:
    return Endpoint(served.engine.name, served.engine.name, "127.0.0.1", served.port)


async def retire(stack: Stack, served: Served, others: list[Endpoint]) -> None:
    """End an engine as Kubernetes does: its endpoint is terminating, it finishes, it goes."""
    stack.router.engines.apply([*others, replace(endpoint(served), draining=True)])
    await until(lambda: served.engine.running == 0)
    stack.router.engines.apply([*others, replace(endpoint(served), draining=True, serving=False)])
    await served.stop()
    stack.router.engines.apply(others)


async def test_a_rollout_of_routers_loses_no_stream(make_stack: StackMaker) -> None:
    old = await make_stack(2, grace=0.3)
    new = await start(old.engines)
    ports = [old.router.port]
    loading = asyncio.create_task(streams(lambda: ports[-1], COUNT))
    await until(lambda: len(old.engines[0].engine.requests) > COUNT // 10)
    old.router.stop()
    # Clients hear of it a little later, as when kube-proxy takes an endpoint out.
    asyncio.get_running_loop().call_later(0.1, ports.append, new.router.port)
    outcomes = await loading
    await asyncio.wait_for(old.task, 20)
    await finish(new)

    assert Counter(outcome.end for outcome in outcomes) == {End.WHOLE: COUNT}


async def test_a_rollout_of_engines_loses_no_stream(make_stack: StackMaker) -> None:
    stack = await make_stack(2)
    running = list(stack.engines)
    loading = asyncio.create_task(streams(lambda: stack.router.port, COUNT))
    for number in range(2):
        await until(lambda: len(running[0].engine.requests) > COUNT // 10)
        running.append(await serve(Engine(f"new-{number}")))
        await retire(stack, running.pop(0), [endpoint(served) for served in running])
    outcomes = await loading
    for served in running:
        await served.stop()

    assert Counter(outcome.end for outcome in outcomes) == {End.WHOLE: COUNT}


async def test_a_scale_down_loses_no_stream(make_stack: StackMaker) -> None:
    stack = await make_stack(4)
    running = list(stack.engines)
    loading = asyncio.create_task(streams(lambda: stack.router.port, COUNT))
    while len(running) > 1:
        await until(lambda: len(running[0].engine.requests) > COUNT // 20)
        await retire(stack, running.pop(0), [endpoint(served) for served in running])
    outcomes = await loading

    assert Counter(outcome.end for outcome in outcomes) == {End.WHOLE: COUNT}
