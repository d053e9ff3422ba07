"""The endpoint picker protocol, message by message. Source: docs/proposals/004-endpoint-picker-protocol, v1.0.0."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from llmcache_runtime.picker.chooser import Chooser
from llmcache_runtime.picker.exchange import Exchange
from llmcache_runtime.picker.service import EXT_PROC
from llmcache_runtime.router.engines import Endpoint
from llmcache_runtime.router.knowledge import Knowledge
from llmcache_runtime.router.settings import Settings
from tests.picker.conftest import start_picker
from tests.router.conftest import chat

if TYPE_CHECKING:
    from collections.abc import Sequence

DESTINATION = "x-gateway-destination-endpoint"
BUFFERED, DUPLEX, NONE = ProcessingMode.BUFFERED, ProcessingMode.FULL_DUPLEX_STREAMED, ProcessingMode.NONE
HEAD = {":method": "POST", ":path": "/v1/chat/completions?x=1"}
BODY = json.dumps(chat("hello")).encode()


class Books:
    """A chooser over engines that are nowhere, and exchanges with it."""

    def __init__(self, count: int = 3, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.knowledge = Knowledge(self.settings)
        self.apply(*(Endpoint(f"uid-{i}", f"engine-{i}", f"10.0.0.{i}", 8000) for i in range(count)))

    def apply(self, *endpoints: Endpoint) -> None:
        self.knowledge.engines.apply(endpoints)

    def exchange(self) -> Exchange:
        return Exchange(Chooser(self.knowledge), self.knowledge.metrics, self.settings)

    @property
    def running(self) -> dict[str, int]:
        return {engine.name: len(engine.active) for engine in self.knowledge.engines}


def head(
    mode: int = BUFFERED, back: int = NONE, *, end: bool = False, subset: Any = None, **fields: str
) -> ProcessingRequest:
    message = ProcessingRequest()
    for name, value in (HEAD | fields).items():
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    message.request_headers.end_of_stream = end
    message.protocol_config.request_body_mode = mode
    message.protocol_config.response_body_mode = back
    if subset is not None:
        hint = message.metadata_context.filter_metadata["envoy.lb.subset_hint"]
        hint.update({f"{DESTINATION}-subset": subset})
    return message


def body(part: bytes = BODY, *, end: bool = True) -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_body.body, message.request_body.end_of_stream = part, end
    return message


def response(status: int = 200, served: str | None = None, attribute: str | None = None) -> ProcessingRequest:
    message = ProcessingRequest()
    message.response_headers.headers.headers.add(key=":status", raw_value=str(status).encode())
    if served is not None:
        message.metadata_context.filter_metadata["envoy.lb"].update({f"{DESTINATION}-served": served})
    if attribute is not None:
        message.attributes["envoy.filters.http.ext_proc"].update({"upstream.address": attribute})
    return message


def piece(part: bytes = b"data: x\n\n", *, end: bool = False) -> ProcessingRequest:
    message = ProcessingRequest()
    message.response_body.body, message.response_body.end_of_stream = part, end
    return message


def trailers(kind: str) -> ProcessingRequest:
    message = ProcessingRequest()
    getattr(message, kind).SetInParent()
    return message


async def told(exchange: Exchange, *sent: ProcessingRequest) -> list[ProcessingResponse]:
    return [answer for message in sent for answer in await exchange.take(message)]


def kinds(answers: Sequence[ProcessingResponse]) -> list[str | None]:
    return [answer.WhichOneof("response") for answer in answers]


def endpoints(answer: ProcessingResponse) -> list[str]:
    """The list in the header, which must be that in the metadata."""
    part = getattr(answer, answer.WhichOneof("response") or "")
    [option] = part.response.header_mutation.set_headers
    assert option.header.key == DESTINATION
    assert answer.dynamic_metadata["envoy.lb"][DESTINATION] == option.header.raw_value.decode()
    return list(option.header.raw_value.decode().split(","))


async def test_a_body_that_is_held_is_answered_with_a_list_of_engines() -> None:
    books = Books()
    waiting, picked = await told(books.exchange(), head(), body())

    assert waiting == ProcessingResponse(request_headers=waiting.request_headers)
    assert not waiting.request_headers.response.header_mutation.set_headers
    assert picked.WhichOneof("response") == "request_body"
    assert sorted(endpoints(picked)) == ["10.0.0.0:8000", "10.0.0.1:8000", "10.0.0.2:8000"]
    assert sum(books.running.values()) == 1


async def test_an_address_of_version_6_is_put_in_brackets() -> None:
    books = Books(0)
    books.apply(Endpoint("a", "a", "fd00::1", 8000))
    answers = await told(books.exchange(), head(), body())

    assert endpoints(answers[1]) == ["[fd00::1]:8000"]


async def test_a_body_that_is_streamed_both_ways_comes_back_in_pieces_behind_its_head() -> None:
    whole = json.dumps(chat("x" * 200_000)).encode()
    parts = [body(whole[:100_000], end=False), body(whole[100_000:])]
    first, *rest = await told(Books().exchange(), head(DUPLEX, DUPLEX), *parts)

    assert endpoints(first)
    pieces = [answer.request_body.response.body_mutation.streamed_response for answer in rest]
    assert b"".join(piece.body for piece in pieces) == whole
    assert max(len(piece.body) for piece in pieces) < 64 * 1024
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [True]


async def test_trailers_end_a_body_as_well() -> None:
    exchange = Books().exchange()
    answers = await told(exchange, head(DUPLEX, DUPLEX), body(end=False), trailers("request_trailers"))

    assert kinds(answers) == ["request_headers", "request_body", "request_trailers"]
    assert not answers[1].request_body.response.body_mutation.streamed_response.end_of_stream


@pytest.mark.parametrize("mode", [NONE, ProcessingMode.STREAMED])
async def test_where_the_body_is_not_held_the_head_decides(mode: int) -> None:
    answers = await told(Books().exchange(), head(mode))

    assert kinds(answers) == ["request_headers"]
    assert len(endpoints(answers[0])) == 3


async def test_a_request_without_a_body_is_picked_for_at_once() -> None:
    answers = await told(Books().exchange(), head(end=True, **{":method": "GET", ":path": "/v1/models"}))

    assert len(endpoints(answers[0])) == 3


@pytest.mark.parametrize("hint", [["10.0.0.2:8000"], ["10.0.0.2:8000", "10.9.9.9:1"], "10.0.0.2:8000, 10.9.9.9:1"])
async def test_only_engines_of_the_subset_are_picked(hint: Any) -> None:
    for _ in range(4):
        answers = await told(Books().exchange(), head(subset=hint), body())
        assert endpoints(answers[1]) == ["10.0.0.2:8000"]


@pytest.mark.parametrize("hint", [[], ["10.9.9.9:1"]])
async def test_a_subset_without_an_engine_is_answered_503(hint: list[str]) -> None:
    exchange = Books().exchange()
    [_, refused] = await told(exchange, head(subset=hint), body())

    assert refused.immediate_response.status.code == 503
    assert json.loads(refused.immediate_response.body)["error"]["code"] == "no_engine"
    assert exchange.finished


async def test_engines_that_are_out_are_no_alternative() -> None:
    books = Books()
    list(books.knowledge.engines)[1].ejected = True
    books.knowledge.engines.changed()
    answers = await told(books.exchange(), head(), body())

    assert sorted(endpoints(answers[1])) == ["10.0.0.0:8000", "10.0.0.2:8000"]


@pytest.mark.parametrize("how", ["served", "attribute"])
async def test_the_books_follow_the_engine_that_served(how: str) -> None:
    books = Books()
    exchange = books.exchange()
    answers = await told(exchange, head(), body())
    first, second, _ = (f"engine-{address[7]}" for address in endpoints(answers[1]))
    assert books.running[first] == 1
    await told(exchange, response(**{how: endpoints(answers[1])[1]}))

    assert (books.running[first], books.running[second]) == (0, 1)
    exchange.close()
    assert sum(books.running.values()) == 0


@pytest.mark.parametrize(("status", "tiers"), [(200, "shared"), (500, "compute")])
async def test_a_prompt_counts_as_shared_once_it_was_answered_well(status: int, tiers: str) -> None:
    books = Books(2)
    text = body(json.dumps(chat("x" * 8000)).encode())
    exchange = books.exchange()
    answers = await told(exchange, head(), text, response(status))
    exchange.close()
    books.knowledge.policy.restart(f"uid-{endpoints(answers[1])[0][7]}")
    again = books.exchange()
    await told(again, head(), text)

    assert again.story is not None
    assert again.story.pick is not None
    assert max(again.story.pick.tiers._asdict().items(), key=lambda item: item[1])[0] == tiers


async def test_an_address_that_nobody_knows_changes_nothing() -> None:
    books = Books()
    exchange = books.exchange()
    await told(exchange, head(), body(), response(served="10.9.9.9:1"))

    assert sum(books.running.values()) == 1


async def test_the_end_of_a_request_frees_its_place_whenever_it_comes() -> None:
    books = Books()
    for sent in ([head()], [head(), body()], [head(), body(), response()]):
        exchange = books.exchange()
        await told(exchange, *sent)
        exchange.close()
        assert sum(books.running.values()) == 0


async def test_nothing_is_left_to_say_once_the_head_of_the_response_has_passed() -> None:
    exchange = Books().exchange()
    await told(exchange, head(), body())
    assert not exchange.finished
    [answer] = await told(exchange, response())

    assert answer.WhichOneof("response") == "response_headers"
    assert exchange.finished


async def test_a_response_that_is_shown_is_handed_on_and_ends_with_its_last_piece() -> None:
    exchange = Books().exchange()
    await told(exchange, head(DUPLEX, DUPLEX), body())
    answers = await told(exchange, response(), piece(), piece(b"data: [DONE]\n\n", end=True))

    streamed = [answer.response_body.response.body_mutation.streamed_response for answer in answers[1:]]
    assert [(one.body, one.end_of_stream) for one in streamed] == [(b"data: x\n\n", False), (b"data: [DONE]\n\n", True)]
    assert exchange.finished


@pytest.mark.parametrize("path", ["/sleep", "/v1/load_lora_adapter", "/v1/chat/completions/"])
async def test_admin_paths_are_closed_unless_named(path: str) -> None:
    [refused] = await told(Books().exchange(), head(**{":path": path}))
    opened = await told(Books(admin_paths=frozenset({path})).exchange(), head(**{":path": path}), body(b""))

    assert refused.immediate_response.status.code == 404
    assert endpoints(opened[1])


async def test_the_log_has_sizes_and_names_and_no_text() -> None:
    exchange = Books().exchange()
    await told(exchange, head(**{"x-request-id": "abc"}), body(json.dumps(chat("secret")).encode()), response())
    entry = exchange.close()

    assert entry is not None
    assert (entry.id, entry.path, entry.status) == ("abc", "/v1/chat/completions", 200)
    assert str(entry.engine).startswith("engine-")
    assert "secret" not in str(entry)


@pytest.mark.parametrize(
    ("service", "synced", "expected"),
    [
        ("liveness", False, HealthCheckResponse.SERVING),
        ("readiness", False, HealthCheckResponse.NOT_SERVING),
        ("readiness", True, HealthCheckResponse.SERVING),
        (EXT_PROC, False, HealthCheckResponse.NOT_SERVING),
        (EXT_PROC, True, HealthCheckResponse.SERVING),
        ("", True, HealthCheckResponse.SERVING),
    ],
)
async def test_health_is_told_over_grpc(service: str, expected: int, *, synced: bool) -> None:
    running = await start_picker([])
    running.picker.knowledge.engines.synced = synced
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.picker.port}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        answer = await check(HealthCheckRequest(service=service))
        with pytest.raises(grpc.aio.AioRpcError, match="known: "):
            await check(HealthCheckRequest(service="nothing"))
    await running.stop()

    assert answer.status == expected
