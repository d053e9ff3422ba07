"""What enters the key of a request."""

import json
from typing import Any

import pytest

from llmcache_runtime.policy import RequestKey, request_key
from llmcache_runtime.policy.hashing import CHUNK_BYTES

TEXT = "once upon a time " * 100


def key(**body: Any) -> RequestKey:
    return request_key(json.dumps({"model": "m"} | body).encode())


def chat(*contents: Any, **more: Any) -> RequestKey:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    return key(messages=messages, **more)


def shared(one: RequestKey, other: RequestKey) -> int:
    """Count the leading chunks that two keys share."""
    pairs = zip(one.chunks, other.chunks, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one.chunks), len(other.chunks)))


def test_a_turn_shares_all_chunks_of_the_turn_before() -> None:
    first = chat(TEXT)
    second = chat(TEXT, TEXT, TEXT)

    assert shared(first, second) == len(first.chunks) == len(TEXT) // CHUNK_BYTES
    assert second.tokens == pytest.approx(3 * len(TEXT) / 4, rel=0.01)
    assert first.home == second.home


def test_sampling_parameters_do_not_matter() -> None:
    assert chat(TEXT, temperature=0.1, stream=False, max_tokens=5) == chat(TEXT, temperature=0.9, seed=3, stream=False)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "adapter"},
        {"cache_salt": "tenant"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"documents": [{"title": "t", "text": "x"}]},
    ],
)
def test_what_the_cache_depends_on_changes_the_key_from_the_first_chunk(change: dict[str, Any]) -> None:
    assert shared(chat(TEXT), chat(TEXT, **change)) == 0
    assert chat(TEXT).home != chat(TEXT, **change).home


def test_roles_are_part_of_the_text() -> None:
    one = key(messages=[{"role": "user", "content": TEXT}])
    other = key(messages=[{"role": "system", "content": TEXT}])

    assert shared(one, other) == 0


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ],
)
def test_media_enter_by_their_hash(part: dict[str, Any]) -> None:
    other = json.loads(json.dumps(part).replace("AAAA", "BBBB"))
    parts = [part, {"type": "text", "text": TEXT}]
    same, changed = chat(parts), chat([other, parts[1]])

    assert chat(parts) == same
    assert shared(same, changed) == 0
    assert same.tokens == pytest.approx(256 + len(TEXT) / 4, rel=0.02)


def test_a_text_part_is_as_good_as_text() -> None:
    assert chat([{"type": "text", "text": TEXT}]) == chat(TEXT)


def test_tool_calls_and_their_results_enter_the_key() -> None:
    def talk(arguments: str, result: str) -> RequestKey:
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        return key(
            messages=[
                {"role": "user", "content": TEXT},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": result + TEXT},
            ]
        )

    asked = len(TEXT) // CHUNK_BYTES
    assert talk("a", "b") == talk("a", "b")
    assert asked <= shared(talk("a", "b"), talk("c", "b")) <= asked + 1
    assert asked <= shared(talk("a", "b"), talk("a", "c")) <= asked + 1


def test_prompts_are_text_lists_of_text_or_tokens() -> None:
    tokens = list(range(1000))

    assert shared(key(prompt=TEXT), key(prompt=TEXT + "more")) == len(TEXT) // CHUNK_BYTES
    assert shared(key(prompt=[TEXT, "a"]), key(prompt=[TEXT, "b"])) == len(TEXT) // CHUNK_BYTES
    assert key(prompt=tokens).tokens == 1000
    assert shared(key(prompt=tokens), key(prompt=[*tokens[:640], *tokens])) == 640 * 4 // CHUNK_BYTES
    assert shared(key(prompt=[tokens]), key(prompt=tokens)) == 1000 * 4 // CHUNK_BYTES


def test_responses_and_messages_apis_are_read() -> None:
    items = [{"role": "user", "content": TEXT}]

    assert len(key(input=TEXT).chunks) == len(key(input=items).chunks) == len(TEXT) // CHUNK_BYTES
    assert shared(key(instructions="be good", input=TEXT), key(input=TEXT)) == 0
    assert shared(key(system="be good", messages=items), key(messages=items)) == 0


def test_a_short_prompt_has_a_home_and_no_chunk() -> None:
    assert chat("hello").chunks == ()
    assert chat("hello").home != chat("hallo").home


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff\xfe",
        b'{"messages": 5}',
        b'{"messages": [{"role": 7}]}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": [-1, 99999999999]}',
        b'{"prompt": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b"--boundary\r\ncontent-disposition: form-data\r\n\r\n",
    ],
)
def test_any_body_has_a_key(body: bytes) -> None:
    assert request_key(body) == request_key(body)
    assert request_key(body).tokens >= 0
