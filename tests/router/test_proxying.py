"""What a client sees when all is well."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest

from llmcache_runtime.router.forward import ForwardSettings
from llmcache_runtime.router.health import HealthSettings
from tests.router.conftest import StackMaker, chat, events, until

CHAT = "/v1/chat/completions"


async def test_whole_and_streamed_answers_pass_unchanged(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    whole = await stack.client.post(CHAT, json=chat())
    streamed = await stack.client.post(CHAT, json=chat(stream=True))

    assert whole.status_code == streamed.status_code == 200
    assert whole.json()["choices"][0]["message"]["content"] == "word word word "
    assert [json.loads(e)["choices"][0]["delta"]["content"] for e in events(streamed.text)[:-1]] == [
        "word0 ",
        "word1 ",
        "word2 ",
    ]
    assert events(streamed.text)[-1] == "[DONE]"
    assert streamed.headers["content-type"].startswith("text/event-stream")


async def test_connections_are_kept_on_both_sides(make_stack: StackMaker) -> None:
    stack = await make_stack(1, health=HealthSettings(interval=60))
    reader, writer = await stack.raw()
    for _ in range(3):
        writer.write(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(content_length(head))
    writer.close()

    assert len(stack.engines[0].engine.heads) == 3
    assert stack.engines[0].engine.accepted <= 2  # one of them may be that of the probe


async def test_a_client_that_wants_to_close_is_closed(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    writer.write(b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert b"connection: close\r\n" in answer


def content_length(head: bytes) -> int:
    lines = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
    return int(lines[b"content-length"])


async def test_requests_sent_ahead_are_answered_in_order(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    body = json.dumps(chat(max_tokens=20)).encode()
    writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
    await until(lambda: stack.engines[0].engine.running == 1)
    writer.write(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
    first = await reader.readuntil(b"\r\n\r\n")
    completion = await reader.readexactly(content_length(first))
    second = await reader.readuntil(b"\r\n\r\n")
    version = await reader.readexactly(content_length(second))
    writer.close()

    assert json.loads(completion)["object"] == "chat.completion"
    assert json.loads(version) == {"path": "/version"}


async def test_an_old_client_gets_a_stream_that_ends_with_the_connection(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    body = json.dumps(chat(stream=True)).encode()
    writer.write(b"POST %b HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
    answer = await reader.read()
    writer.close()
    head, _, stream = answer.partition(b"\r\n\r\n")

    assert b"transfer-encoding" not in head.lower()
    assert stream.startswith(b"data: {")
    assert stream.endswith(b"data: [DONE]\n\n")


async def test_hop_by_hop_headers_stay_on_their_hop(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    reader, writer = await stack.raw()
    writer.write(
        b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: x-private, keep-alive\r\nX-Private: 1\r\nX-Public: 2\r\n"
        b"Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: b\r\nTrailer: x\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    seen = stack.engines[0].engine.heads[0]

    assert head.startswith(b"HTTP/1.1 200 ")
    assert seen["x-public"] == "2"
    assert seen["host"] == f"127.0.0.1:{stack.engines[0].port}"
    assert not seen.keys() & {
        "connection",
        "x-private",
        "keep-alive",
        "te",
        "upgrade",
        "proxy-authorization",
        "trailer",
        "transfer-encoding",
    }


async def test_a_chunked_request_is_forwarded_with_one_length(make_stack: StackMaker) -> None:
    stack = await make_stack(1)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"model": "fake", "max_tokens": 1, ', b'"prompt": "x"}'):
            yield piece

    answer = await stack.client.post("/v1/completions", content=pieces())
    seen = stack.engines[0].engine.heads[0]

    assert answer.status_code == 200
    assert seen["content-length"] == "49"
    assert "transfer-encoding" not in seen


async def test_ids_and_trace_context_are_passed_on(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await stack.client.get("/version", headers={"x-request-id": "mine-1", "traceparent": trace})
    seen = stack.engines[0].engine.heads[0]

    assert answer.headers["x-request-id"] == "mine-1"
    assert (seen["x-request-id"], seen["traceparent"]) == ("mine-1", trace)


@pytest.mark.parametrize(
    ("parent", "passed"), [("00-" + "a" * 32 + "-" + "b" * 16 + "-01", True), ("00-0-0-00", False)]
)
async def test_the_state_of_a_trace_goes_with_its_parent(make_stack: StackMaker, parent: str, *, passed: bool) -> None:
    stack = await make_stack(1)
    await stack.client.get("/version", headers={"traceparent": parent, "tracestate": "a=b"})

    assert ("tracestate" in stack.engines[0].engine.heads[0]) is passed


async def test_sound_to_be_transcribed_passes_unchanged(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    answer = await stack.client.post("/v1/audio/transcriptions", files={"file": ("a.wav", b"RIFF\0\xff" * 1000)})
    seen = stack.engines[0].engine

    assert answer.status_code == 400, "the fake engine reads JSON only"
    assert seen.heads[0]["content-type"].startswith("multipart/form-data; boundary=")
    assert int(seen.heads[0]["content-length"]) > 6000


async def test_absent_and_invalid_ids_are_replaced(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    answers = [
        await stack.client.get("/version"),
        await stack.client.get("/version", headers={"x-request-id": "x" * 200, "traceparent": "00-0-0-00"}),
    ]
    seen = stack.engines[0].engine.heads

    for answer, head in zip(answers, seen, strict=True):
        assert answer.headers["x-request-id"] == head["x-request-id"]
        assert len(head["x-request-id"]) == 32
        assert head["traceparent"].startswith("00-")
        assert len(head["traceparent"]) == 55


async def test_admin_paths_are_closed_and_never_forwarded(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    closed = ["/sleep", "/wake_up", "/is_sleeping", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"]
    closed += ["/collective_rpc", "/reset_prefix_cache", "/metrics", "/server_info", "/load", "/docs", "/openapi.json"]
    closed += [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/%73leep",
        "/v1/../sleep",
        "/pause",
        "/update_weights",
    ]
    for path in closed:
        for method in ("GET", "POST"):
            answer = await stack.client.request(
                method, httpx.URL(stack.client.base_url).copy_with(raw_path=path.encode())
            )
            assert (path, answer.status_code) == (path, 404)
            assert answer.json()["error"]["code"] == "not_found"

    assert stack.engines[0].engine.heads == []


async def test_an_admin_path_is_open_once_it_was_named_and_no_other_is(make_stack: StackMaker) -> None:
    stack = await make_stack(1, admin_paths=frozenset({"/v1/load_lora_adapter"}))
    opened = await stack.client.post("/v1/load_lora_adapter", json={"lora_name": "x"})
    near = [await stack.client.post(path) for path in ("/v1/load_lora_adapter/", "/v1/unload_lora_adapter", "/sleep")]

    assert opened.status_code == 200
    assert [answer.status_code for answer in near] == [404, 404, 404]
    assert [head["path"] for head in stack.engines[0].engine.heads] == ["/v1/load_lora_adapter"]


async def test_a_wrong_method_is_told(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    answer = await stack.client.get(CHAT)

    assert answer.status_code == 405
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_models_of_all_engines_are_merged(make_stack: StackMaker) -> None:
    stack = await make_stack(3)
    stack.engines[2].engine.model = "adapter"
    answer = await stack.client.get("/v1/models")

    assert sorted(model["id"] for model in answer.json()["data"]) == ["adapter", "fake"]


async def test_engine_headers_are_sent_only_when_asked_for(make_stack: StackMaker) -> None:
    plain = await make_stack(1)
    debug = await make_stack(1, forward=ForwardSettings(debug_headers=True))
    text = "x" * 4096
    await debug.client.post(CHAT, json=chat(text))
    first = await plain.client.post(CHAT, json=chat(text))
    second = await debug.client.post(CHAT, json=chat(text))

    assert "x-llmcache-engine" not in first.headers
    assert second.headers["x-llmcache-engine"] == "engine-0"
    assert second.headers["x-llmcache-tiers"] == "engine=1024, shared=0, compute=1"


async def test_a_conversation_stays_on_the_engine_that_holds_it(make_stack: StackMaker) -> None:
    stack = await make_stack(4)
    messages = [{"role": "user", "content": "question " * 200}]
    for _ in range(5):
        await stack.client.post(CHAT, json=chat(messages=messages))
        messages += [{"role": "assistant", "content": "answer " * 50}, {"role": "user", "content": "more " * 50}]

    assert sorted(len(e.engine.requests) for e in stack.engines) == [0, 0, 0, 5]


async def test_a_slow_reader_holds_its_engine_back(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    engine = stack.engines[0].engine
    engine.speeds.decode = 1e6
    reader, writer = await stack.raw(limit=1024)
    body = json.dumps(chat(stream=True, max_tokens=200_000)).encode()
    writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
    await reader.readuntil(b"\r\n\r\n")
    await until(lambda: any(not c._writable.is_set() for c in stack.engines[0].connections), 20)
    held = engine.generated
    await asyncio.sleep(0.1)

    assert engine.generated == held < 200_000
    writer.transport.abort()
    await until(lambda: engine.aborted == 1)


async def test_a_client_that_leaves_aborts_the_work_of_the_engine(make_stack: StackMaker) -> None:
    stack = await make_stack(1)
    engine = stack.engines[0].engine

    def left(before: int) -> bool:
        return engine.aborted == before + 1 and engine.running == 0

    for stream in (True, False):
        before = engine.aborted
        _, writer = await stack.raw()
        body = json.dumps(chat(stream=stream, max_tokens=10_000)).encode()
        writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        await until(lambda: engine.running == 1)
        writer.transport.abort()
        await until(partial(left, before))

    assert await stack.metric("llmcache_router_client_disconnects_total") == 2
    assert await stack.metric('llmcache_router_engine_running{engine="engine-0"}') == 0
