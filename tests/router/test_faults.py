"""What a client sees when engines fail."""

import asyncio
import json
import time
from dataclasses import replace

import pytest

from llmcache_runtime.router.admission import AdmissionSettings
from llmcache_runtime.router.forward import ForwardSettings
from llmcache_runtime.router.health import HealthSettings
from tests.fakes.engine import Fault
from tests.router.conftest import FAST, StackMaker, chat, events, until

CHAT = "/v1/chat/completions"


async def test_a_dead_engine_costs_no_request(make_stack: StackMaker) -> None:
    stack = await make_stack(3, policy="RoundRobin")
    await stack.engines[1].stop()
    answers = [await stack.client.post(CHAT, json=chat()) for _ in range(9)]

    assert {a.status_code for a in answers} == {200}
    assert await stack.metric('llmcache_router_ejections_total{engine="engine-1"}') >= 1


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.REFUSE, Fault.GARBAGE])
async def test_a_sick_engine_costs_no_request(make_stack: StackMaker, fault: Fault) -> None:
    stack = await make_stack(2, policy="RoundRobin")
    stack.engines[0].engine.fault = fault
    answers = await asyncio.gather(*(stack.client.post(CHAT, json=chat(stream=True)) for _ in range(8)))

    assert {a.status_code for a in answers} == {200}
    assert len(stack.engines[1].engine.requests) == 8


async def test_an_engine_that_dies_in_mid_stream_ends_it_with_an_error_event(make_stack: StackMaker) -> None:
    stack = await make_stack(2)
    for served in stack.engines:
        served.engine.fault = Fault.DIE
    answer = await stack.client.post(CHAT, json=chat(stream=True, max_tokens=50))
    *tokens, last = events(answer.text)

    assert len(tokens) == 3
    assert all(json.loads(token)["choices"] for token in tokens)
    assert json.loads(last)["error"]["code"] == "engine_lost"
    assert await stack.metric("llmcache_router_cut_responses_total") == 1


async def test_the_only_engine_dying_before_its_answer_is_told(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    task = asyncio.create_task(stack.client.post(CHAT, json=chat(max_tokens=10_000)))
    await until(lambda: stack.engines[0].engine.running == 1)
    await stack.engines[0].stop()
    answer = await task

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_engine"
    assert answer.headers["retry-after"] == "1"


async def test_streams_of_an_engine_that_hangs_for_long_end_with_an_error_event(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    engine = stack.engines[0].engine
    engine.speeds.decode = 0.001
    task = asyncio.create_task(stack.client.post(CHAT, json=chat(stream=True, max_tokens=5)))
    await until(lambda: engine.running == 1)
    engine.fault = Fault.HANG
    answer = await task

    assert json.loads(events(answer.text)[-1])["error"]["code"] == "engine_lost"


async def test_an_engine_that_takes_too_long_to_begin_is_given_up(make_stack: StackMaker) -> None:
    quick = ForwardSettings(first_byte_timeout=0.05)
    stack = await make_stack(1, forward=quick, health=HealthSettings(interval=60))
    stack.engines[0].engine.speeds.prefill = 0.001
    answer = await stack.client.post(CHAT, json=chat())

    assert answer.status_code == 503
    assert "no response within 0.05 s" in answer.json()["error"]["message"]


async def test_all_engines_down_is_told_at_once_and_over_when_the_first_is_back(make_stack: StackMaker) -> None:
    stack = await make_stack(2)
    for served in stack.engines:
        await served.stop()
    down = await stack.client.post(CHAT, json=chat())
    await stack.engines[1].start_again()
    begun = time.monotonic()
    while (back := await stack.client.post(CHAT, json=chat())).status_code != 200:
        assert time.monotonic() - begun < 20

    assert down.status_code == 503
    assert down.headers["retry-after"] == "1"
    assert down.json()["error"]["code"] == "no_engine"
    assert back.status_code == 200


async def test_an_engine_that_is_just_back_gets_requests_only_where_no_other_is(make_stack: StackMaker) -> None:
    stack = await make_stack(2, policy="RoundRobin", health=replace(FAST, trial=3600, max_trial=3600))
    first = next(iter(stack.router.engines))
    await stack.engines[0].stop()
    await until(lambda: first.ejected)
    await stack.engines[0].start_again()
    await until(lambda: first.alive_since is not None)
    others = [await stack.client.post(CHAT, json=chat()) for _ in range(4)]
    sent_early = len(stack.engines[0].engine.requests)
    await stack.engines[1].stop()
    alone = await stack.client.post(CHAT, json=chat())

    assert sent_early == 0
    assert {answer.status_code for answer in (*others, alone)} == {200}


async def test_an_engine_that_flaps_waits_longer_each_time(make_stack: StackMaker) -> None:
    stack = await make_stack(2, health=replace(FAST, max_trial=1.0))
    first = next(iter(stack.router.engines))
    trials = []
    for _ in range(3):
        await stack.engines[0].stop()
        await until(lambda: first.ejected)
        trials.append(first.trial)
        await stack.engines[0].start_again()
        await until(lambda: not first.ejected)

    assert trials == [0.1, 0.2, 0.4]


async def test_an_engine_that_is_back_is_out_again_at_its_first_failure(make_stack: StackMaker) -> None:
    stack = await make_stack(2, policy="RoundRobin")
    first = next(iter(stack.router.engines))
    stack.engines[0].engine.fault = Fault.DIE
    cuts = []
    for _ in range(2):
        while not first.ejected:
            await stack.client.post(CHAT, json=chat(stream=True, max_tokens=5))
        cuts.append(await stack.metric("llmcache_router_cut_responses_total"))
        await until(lambda: not first.ejected)

    assert cuts == [3, 4]


async def test_a_probe_that_fails_begins_the_trial_again(make_stack: StackMaker) -> None:
    stack = await make_stack(2, health=replace(FAST, trial=3600, max_trial=3600))
    first = next(iter(stack.router.engines))
    for _ in range(2):
        await stack.engines[0].stop()
        await until(lambda: first.ejected and first.alive_since is None)
        await stack.engines[0].start_again()
        await until(lambda: first.alive_since is not None)

    assert await stack.metric('llmcache_router_ejections_total{engine="engine-0"}') == 1


async def test_a_restarted_engine_is_no_longer_thought_to_hold_anything(make_stack: StackMaker) -> None:
    stack = await make_stack(1, forward=ForwardSettings(debug_headers=True))
    body = chat("x" * 4096)
    await stack.client.post(CHAT, json=body)
    held = await stack.client.post(CHAT, json=body)
    await stack.engines[0].stop()
    await until(lambda: not next(iter(stack.router.engines)).available)
    await stack.engines[0].start_again()
    await until(lambda: next(iter(stack.router.engines)).available)
    again = await stack.client.post(CHAT, json=body)

    assert held.headers["x-llmcache-tiers"].startswith("engine=1024")
    assert again.headers["x-llmcache-tiers"].startswith("engine=0, shared=1024")


async def test_a_kept_connection_that_the_engine_closed_is_replaced(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    await stack.client.post(CHAT, json=chat())
    for connection in tuple(stack.engines[0].connections):
        connection.transport.close()
    answer = await stack.client.post(CHAT, json=chat())

    assert answer.status_code == 200
    assert await stack.metric('llmcache_router_ejections_total{engine="engine-0"}') == 0


async def test_requests_beyond_the_bound_wait_their_turn(make_stack: StackMaker) -> None:
    stack = await make_stack(1, admission=AdmissionSettings(running=1, queue=10, timeout=10))
    answers = await asyncio.gather(*(stack.client.post(CHAT, json=chat(f"{i}")) for i in range(5)))

    assert {a.status_code for a in answers} == {200}


@pytest.mark.parametrize(
    "admission", [AdmissionSettings(1, 0, 10), AdmissionSettings(1, 10, 0.05)], ids=["full", "late"]
)
async def test_saturation_is_told(make_stack: StackMaker, admission: AdmissionSettings) -> None:
    stack = await make_stack(1, admission=admission)
    first = asyncio.create_task(stack.client.post(CHAT, json=chat(max_tokens=100_000)))
    await until(lambda: stack.engines[0].engine.running == 1)
    second = await stack.client.post(CHAT, json=chat())
    first.cancel()
    await asyncio.wait([first])

    assert second.status_code == 503
    assert second.headers["retry-after"] == "1"
    assert second.json()["error"]["code"] == "saturated"


async def test_a_stop_loses_no_stream(make_stack: StackMaker) -> None:
    stack = await make_stack(2, grace=0.2)
    tasks = [asyncio.create_task(stack.client.post(CHAT, json=chat(stream=True, max_tokens=100))) for _ in range(20)]
    await until(lambda: sum(e.engine.running for e in stack.engines) == 20)
    stack.router.stop()
    ready = await stack.client.get(f"{stack.private}/readyz")
    while ready.status_code == 200:
        ready = await stack.client.get(f"{stack.private}/readyz")
    late = await stack.client.post(CHAT, json=chat())
    answers = await asyncio.gather(*tasks)
    await asyncio.wait_for(stack.task, 10)

    assert ready.text == "stopping\n"
    assert late.status_code == 200
    assert late.headers["connection"] == "close"
    assert all(events(a.text)[-1] == "[DONE]" for a in answers)


async def test_a_stop_does_not_wait_for_idle_connections(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    await stack.client.post(CHAT, json=chat())
    stack.router.stop()
    await asyncio.wait_for(stack.task, 5)


async def test_a_stop_cuts_what_takes_too_long(make_stack: StackMaker) -> None:
    stack = await make_stack(1, drain_timeout=0.1)
    reader, writer = await stack.raw()
    body = json.dumps(chat(stream=True, max_tokens=10_000)).encode()
    writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
    await reader.readuntil(b"\r\n\r\n")
    stack.router.stop()
    await asyncio.wait_for(stack.task, 10)
    writer.close()

    await until(lambda: stack.engines[0].engine.aborted == 1)
