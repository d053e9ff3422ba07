"""From a request body to the key that policies work with.

The key covers what an engine's cache depends on: the model (a LoRA adapter is a model name in vLLM), the cache salt,
tools, and the text of the prompt in order. Two bodies with equal prompts get equal keys whatever their sampling
parameters are. Field names: vLLM's OpenAI-compatible server, `vllm/entrypoints/openai/*/protocol.py`, and its
Anthropic `/v1/messages`.
"""

from typing import Any

import msgspec

from llmcache_runtime.policy.hashing import chain, digest
from llmcache_runtime.policy.interface import RequestKey

BYTES_PER_TOKEN = 4
HOME_CHUNKS = 8
"""A text prompt has no turns: its first chunks stand for the conversation."""

MEDIA_TOKENS = 256
"""What an image, a sound or a video is taken to cost; its hash fills that many tokens of the canonical text."""

_MESSAGE, _FIELD = b"\x1e", b"\x1f"
_NOTHING = msgspec.Raw(b"")


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: str | list[Any] | None = None
    name: str | None = None
    tool_calls: msgspec.Raw = _NOTHING
    tool_call_id: str | None = None


class _Body(msgspec.Struct, gc=False):
    model: str | None = None
    stream: bool | None = None
    cache_salt: str | None = None
    tools: msgspec.Raw = _NOTHING
    documents: msgspec.Raw = _NOTHING
    messages: list[_Message] = []
    system: Any = None
    instructions: str | None = None
    prompt: Any = None
    input: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def request_key(body: bytes, session: bytes | None = None) -> RequestKey:
    """Compute the key of a JSON body; any other body gets one without chunks, which is routed by load alone."""
    try:
        return _key(_decode(body), session)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return RequestKey(tokens=len(body) // BYTES_PER_TOKEN, home=digest(body), streams=False, session=session)


def _key(request: _Body, session: bytes | None) -> RequestKey:
    scope = digest(_FIELD.join(((request.model or "").encode(), (request.cache_salt or "").encode())))
    preamble = bytes(request.tools) + bytes(request.documents) + _text(request.system) + _text(request.instructions)
    if request.messages:
        parts = [_message(m) for m in request.messages]
        opening = _first_user(request.messages) + 1
        text = preamble + b"".join(parts[:opening])
        home = digest(text, scope)
        text += b"".join(parts[opening:])
        chunks = chain(text, scope)
    else:
        text = preamble + _text(request.prompt if request.prompt is not None else request.input)
        chunks = chain(text, scope)
        home = chunks[min(len(chunks), HOME_CHUNKS) - 1] if chunks else digest(text, scope)
    return RequestKey(
        chunks=chunks,
        tokens=len(text) // BYTES_PER_TOKEN,
        home=home,
        streams=bool(request.stream),
        session=session,
    )


def _first_user(messages: list[_Message]) -> int:
    return next((i for i, m in enumerate(messages) if m.role == "user"), len(messages) - 1)


def _message(message: _Message) -> bytes:
    text = b"".join((_MESSAGE, message.role.encode(), _FIELD, _text(message.content)))
    if message.tool_calls or message.tool_call_id or message.name:
        extra = (message.name or "").encode(), (message.tool_call_id or "").encode(), bytes(message.tool_calls)
        text += _FIELD + _FIELD.join(extra)
    return text


def _text(value: Any) -> bytes:
    """Render a prompt, a content or a part of it: text as it is, token ids as numbers, the rest as its hash."""
    match value:
        case None:
            text = b""
        case str():
            text = value.encode()
        case [int(), *_] if all(isinstance(item, int) and 0 <= item < 1 << 32 for item in value):
            text = b"".join(item.to_bytes(BYTES_PER_TOKEN, "little") for item in value)
        case list():
            text = _FIELD.join(map(_text, value))
        case {"text": str(part)}:
            text = part.encode()
        case {"content": content, "role": str(role)}:
            text = _MESSAGE + role.encode() + _FIELD + _text(content)
        case _:
            text = _media(value)
    return text


def _media(value: Any) -> bytes:
    mark = digest(msgspec.json.encode(value)).to_bytes(8, "little")
    return mark * (MEDIA_TOKENS * BYTES_PER_TOKEN // len(mark))
