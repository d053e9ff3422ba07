"""Requests through a real Envoy whose endpoints the picker picks."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest

from llmcache_runtime.router.admission import AdmissionSettings
from llmcache_runtime.router.forward import ForwardSettings
from llmcache_runtime.router.http1 import Limits
from tests.fakes.engine import Engine, serve
from tests.picker import gateway
from tests.picker.conftest import UNPROBED, start_picker, within
from tests.router.conftest import chat, events, until
from tests.router.test_safety import common_name, write_certificate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.picker.conftest import Stack

    StackMaker = Callable[..., Awaitable[Stack]]

CHAT = "/v1/chat/completions"
MODES = pytest.mark.parametrize("body_mode", [None, "FULL_DUPLEX_STREAMED"], ids=["buffered", "duplex"])
MEGABYTES = 10


async def test_the_turns_of_a_chat_go_to_the_engine_that_holds_it(make_stack: StackMaker) -> None:
    stack = await make_stack(3, forward=ForwardSettings(debug_headers=True))
    seen: dict[int, list[tuple[str, str]]] = {}
    chats = {user: [{"role": "user", "content": f"user {user} " * 200}] for user in range(6)}
    for _ in range(3):
        for user, messages in chats.items():
            answer = await stack.client.post(CHAT, json=chat(messages=messages))
            seen.setdefault(user, []).append((answer.headers["x-llmcache-engine"], answer.json()["engine"]))
            messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": "and then? " * 50}]

    assert all(told == real for turns in seen.values() for told, real in turns)
    assert all(len(set(turns)) == 1 for turns in seen.values())
    assert len({turns[0] for turns in seen.values()}) > 1


@MODES
async def test_a_stream_passes_as_it_comes(make_stack: StackMaker, body_mode: str | None) -> None:
    stack = await make_stack(1, body_mode=body_mode)
    engine = stack.engines[0].engine
    engine.speeds.decode = 20.0
    text = ""
    async with stack.client.stream("POST", CHAT, json=chat(stream=True, max_tokens=200)) as response:
        async for piece in response.aiter_text():
            text += piece
            if engine.speeds.decode == 20.0 and text.count("\n\n") >= 3:
                assert engine.running == 1, "held back to the end"
                engine.speeds.decode = 1e6

    assert len(events(text)) == 201
    assert events(text)[-1] == "[DONE]"


async def test_the_first_token_is_seen_where_the_gateway_shows_bodies(make_stack: StackMaker) -> None:
    stack = await make_stack(1, body_mode="FULL_DUPLEX_STREAMED")
    await stack.client.post(CHAT, json=chat(stream=True, max_tokens=4))

    name = 'llmcache_router_time_to_first_token_seconds_count{engine="engine-0",expected="compute"}'
    assert await stack.running.metric(name) == 1


@MODES
async def test_a_body_of_ten_megabytes_arrives_whole(make_stack: StackMaker, body_mode: str | None) -> None:
    stack = await make_stack(2, body_mode=body_mode)
    text = "0123456789abcdef" * (MEGABYTES * 1024 * 1024 // 16)
    answer = await stack.client.post(CHAT, json=chat(text))

    assert answer.status_code == 200
    [request] = [request for served in stack.engines for request in served.engine.requests]
    assert request["messages"][0]["content"] == text
    assert await stack.envoy.counter("failure_mode_allowed") == 0


@MODES
async def test_a_body_beyond_the_pickers_limit_is_refused(make_stack: StackMaker, body_mode: str | None) -> None:
    stack = await make_stack(1, body_mode=body_mode, limits=Limits(body=1000))
    answer = await stack.client.post(CHAT, json=chat("x" * 2000))

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"
    assert stack.engines[0].engine.requests == []


@MODES
async def test_a_dead_first_engine_costs_no_request(make_stack: StackMaker, body_mode: str | None) -> None:
    """The picker does not know yet that it is gone; the gateway goes down the list."""
    stack = await make_stack(3, health=UNPROBED, policy="RoundRobin", body_mode=body_mode)
    dead = stack.engines[0]
    await dead.stop()
    answers = [await stack.client.post(CHAT, json=chat(f"{i}")) for i in range(12)]

    assert [answer.status_code for answer in answers] == [200] * 12
    await stack.settled()


async def test_the_engine_that_answered_is_the_one_that_is_counted(make_stack: StackMaker) -> None:
    stack = await make_stack(2, health=UNPROBED, forward=ForwardSettings(debug_headers=True))
    first = await stack.client.post(CHAT, json=chat("x" * 2000))
    home, other = sorted(stack.engines, key=lambda e: e.engine.name != first.headers["x-llmcache-engine"])
    await home.stop()
    stream = asyncio.create_task(stack.client.post(CHAT, json=chat("x" * 2000, stream=True, max_tokens=60)))
    await until(lambda: other.engine.running == 1)

    async def counted() -> bool:
        return (await stack.running.page())[other.engine.name]["running"] == 1

    await within(counted)
    assert (await stack.running.page())[home.engine.name]["running"] == 0
    assert (await stream).headers["x-llmcache-engine"] == other.engine.name
    assert await stack.running.metric('llmcache_router_retries_total{cause="gateway"}') == 1


async def test_an_engine_that_was_passed_over_is_probed_at_once_and_picked_no_more(make_stack: StackMaker) -> None:
    stack = await make_stack(2, health=UNPROBED, policy="RoundRobin")
    await stack.engines[0].stop()
    for i in range(4):
        await stack.client.post(CHAT, json=chat(f"{i}"))

    async def ejected() -> bool:
        return bool((await stack.running.page())["engine-0"]["ejected"])

    await within(ejected)
    before = await stack.running.metric('llmcache_router_retries_total{cause="gateway"}')
    answers = [await stack.client.post(CHAT, json=chat(f"again {i}")) for i in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert await stack.running.metric('llmcache_router_retries_total{cause="gateway"}') == before


@MODES
async def test_a_client_that_leaves_frees_its_place(make_stack: StackMaker, body_mode: str | None) -> None:
    stack = await make_stack(1, body_mode=body_mode)
    engine = stack.engines[0].engine
    async with stack.client.stream("POST", CHAT, json=chat(stream=True, max_tokens=100_000)) as response:
        pieces = response.aiter_bytes()
        await anext(pieces)
        assert await stack.in_flight() == 1

    await until(lambda: engine.running == 0)
    await stack.settled()
    assert engine.aborted == 1


async def test_a_client_that_leaves_before_the_answer_frees_its_place_too(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    stack.engines[0].engine.speeds.prefill = 1.0
    with pytest.raises(httpx.ReadTimeout):
        await stack.client.post(CHAT, json=chat("x" * 4000), timeout=0.3)

    await stack.settled()
    assert await stack.running.metric("llmcache_router_client_disconnects_total") == 1


async def test_without_an_engine_the_answer_is_503_and_when_all_are_full_429(make_stack: StackMaker) -> None:
    stack = await make_stack(1, admission=AdmissionSettings(running=1, queue=0))
    async with stack.client.stream("POST", CHAT, json=chat(stream=True, max_tokens=100_000)) as response:
        pieces = response.aiter_bytes()
        await anext(pieces)
        full = await stack.client.post(CHAT, json=chat())
    stack.running.picker.knowledge.engines.apply([])
    none = await stack.client.post(CHAT, json=chat())

    assert (full.status_code, full.json()["error"]["code"]) == (429, "saturated")
    assert (none.status_code, none.json()["error"]["code"]) == (503, "no_engine")
    assert full.headers["retry-after"] == none.headers["retry-after"] == "1"


async def test_paths_that_are_not_for_inference_stay_closed(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    for path in ("/sleep", "/v1/load_lora_adapter", "/metrics", "/reset_prefix_cache", "/%73leep"):
        assert (await stack.client.post(path)).status_code in {400, 404}
    assert (await stack.client.get(CHAT)).status_code == 405
    assert (await stack.client.get("/v1/models")).json()["data"][0]["id"] == "fake"
    assert {head["path"] for head in stack.engines[0].engine.heads} == {"/v1/models"}


async def test_a_client_can_not_name_an_engine(make_stack: StackMaker) -> None:
    stack = await make_stack(2)
    seen: Counter[str] = Counter()
    for i, served in enumerate(stack.engines * 2):
        header = {"x-gateway-destination-endpoint": f"127.0.0.1:{served.port}"}
        answer = await stack.client.post(CHAT, json=chat("the same for all" * 200, n=i), headers=header)
        seen[answer.json()["engine"]] += 1

    assert len(seen) == 1, "they follow the prefix"


async def test_a_gateway_that_insists_on_tls_gets_it_and_follows_a_new_certificate(tmp_path: Path) -> None:
    engine = await serve(Engine("engine-0"))
    files = write_certificate(tmp_path, "first")
    running = await start_picker([engine], tls=files)
    context = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {"alpn_protocols": ["h2"]},
        },
    }
    config = gateway.configuration(running.picker.port, [engine.port])
    config["static_resources"]["clusters"][1]["transport_socket"] = context
    gateway.filter_of(config)["failure_mode_allow"] = False
    async with (
        gateway.running(config, tmp_path) as envoy,
        httpx.AsyncClient(base_url=envoy.url, timeout=20, trust_env=False) as client,
    ):
        assert (await client.post(CHAT, json=chat())).status_code == 200
        assert await common_name(running.picker.port) == "CN=first"
        write_certificate(tmp_path, "second")
        assert await common_name(running.picker.port) == "CN=second"
        files[0].write_text("no certificate")
        assert await common_name(running.picker.port) == "CN=second"
        for file in files:
            file.unlink()
        assert await common_name(running.picker.port) == "CN=second"
        assert (await client.post(CHAT, json=chat())).status_code == 200
    await running.stop()
    await engine.stop()
