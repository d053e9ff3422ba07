"""A fake vLLM engine with LMCache's connector: its caches, the time that prefills take, and its pages.

A token is four characters, as in `tests.fakes.vllm`, whose hashing and LRU it shares. How the connector behaves while
the server is away or the engine is not registered follows lmcache 0.5.6: lookups come from the scheduler and need no
registration; storing and retrieving do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2e.causes.fake.cache_server import Asker
from e2e.causes.fake.metrics import SOURCES, EngineMetrics
from tests.fakes.vllm import TOKEN_CHARS, Lru, Speeds, hash_chain

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.causes.fake.cache_server import CacheServer

LOOK_UP_TIMEOUT = 0.1


@dataclass(frozen=True)
class Answer:
    """What a request got: prompt tokens by source, in the order of `SOURCES`, and the first token's top logprobs."""

    sources: tuple[int, int, int]
    top: dict[str, float]


@dataclass
class Engine:
    """One engine. `root` is the path that it was started with, which is in every key that it stores under."""

    root: str
    server: CacheServer
    model: str = "chat"
    cache_tokens: int = 9000
    chunk_tokens: int = 256
    speeds: Speeds = field(default_factory=lambda: Speeds(prefill=10_000.0, reload=60_000.0))
    version: str = "0.32.0"
    block_tokens: int = 32
    cache_dtype: str = "auto"
    world_size: int = 1
    up: bool = True
    registers: bool = True
    reaches_server: bool = True
    wrong_kv: bool = False
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.instance = 0
        self.restart()

    def restart(self) -> None:
        """End as asked, and begin anew: empty cache, counters at nothing, another instance for the server."""
        self.server.unregister(self.instance)
        self.instance = uuid.uuid4().int & ((1 << 63) - 1)
        self._cache = Lru(self.cache_tokens // self.block_tokens)
        self.metrics = EngineMetrics(self.model, self.block_tokens, self.cache_tokens, self.cache_dtype)
        self._frozen_text = ""

    def freeze(self, *families: str) -> None:
        """Let some counters stand still while requests go on; none thaws them."""
        self._frozen_text = self.metrics.render()
        self.frozen = families

    def ping(self) -> None:
        """Tell the server that this engine is there, as its connector does every few seconds."""
        if self.up and self.registers and self._connected():
            self.server.ping(self.instance, self.root, self.block_tokens, self.world_size)

    async def ask(self, text: str, salt: str = "") -> Answer:
        """Take a prompt in; takes the time that this costs, which no other request adds to.

        Nothing is shared between salts.
        """
        metrics, begun = self.metrics, time.monotonic()
        with metrics.running.track_inprogress():
            sources = self._take(text, salt)
            with metrics.fetching.track_inprogress():
                await asyncio.sleep(sources[2] / self.speeds.reload)
            loaded = time.monotonic()
            await asyncio.sleep(sources[0] / self.speeds.prefill)
        now = time.monotonic()
        metrics.first_token.observe(now - begun)
        # vLLM counts a load from a KV connector as waiting.
        metrics.prefill.observe(now - loaded)
        if sources[2]:
            metrics.load_seconds.inc(loaded - begun)
            metrics.load_tokens.inc(sources[2])
        self._count(sources)
        return Answer(sources, self._top(text, wrong=self.wrong_kv and sources[2] > 0))

    def page(self, path: str) -> str | None:
        """Return the body of a GET, or None where there is no such page."""
        card = {"id": self.model, "object": "model", "owned_by": "vllm", "root": self.root, "parent": None}
        pages: dict[str, Callable[[], str]] = {
            "/health": lambda: "",
            "/metrics": lambda: self.metrics.render(self.frozen, self._frozen_text),
            "/v1/models": lambda: json.dumps({"object": "list", "data": [card]}),
            "/version": lambda: json.dumps({"version": self.version}),
        }
        return pages[path]() if path in pages else None

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a completion or chat completion of one token."""
        answer = await self.ask(_text(request), request.get("cache_salt") or "")
        tokens, token = sum(answer.sources), max(answer.top, key=lambda key: answer.top[key])
        choice = {
            "index": 0,
            "text": token,
            "message": {"role": "assistant", "content": token},
            "finish_reason": "length",
            "logprobs": {"tokens": [token], "token_logprobs": [answer.top[token]], "top_logprobs": [answer.top]},
        }
        usage = {
            "prompt_tokens": tokens,
            "completion_tokens": 1,
            "total_tokens": tokens + 1,
            "prompt_tokens_details": {"cached_tokens": tokens - answer.sources[0]},
        }
        return {"id": "cmpl-1", "object": "text_completion", "model": self.model, "choices": [choice], "usage": usage}

    def _connected(self) -> bool:
        return self.reaches_server and self.server.up

    def _take(self, text: str, salt: str) -> tuple[int, int, int]:
        tokens = max(1, len(text) // TOKEN_CHARS)
        blocks, chunks = (_salted(hash_chain(text, size), salt) for size in (self.block_tokens, self.chunk_tokens))
        asker = Asker(self.root, self.world_size, self.chunk_tokens)
        local = min(self._cache.matched(blocks) * self.block_tokens, tokens - 1)
        found = self.server.look_up(asker, chunks) if self._connected() else 0
        held = found * self.chunk_tokens
        self.metrics.look_ups.observe(0.004 if self._connected() else LOOK_UP_TIMEOUT)
        usable = self._connected() and self.instance in self.server.instances
        external = max(0, min(held, tokens - 1) - local) if usable else 0
        self._cache.touch(blocks)
        if usable:
            self.server.store(asker, chunks)
        return tokens - local - external, local, external

    def _count(self, sources: tuple[int, int, int]) -> None:
        metrics, tokens = self.metrics, sum(sources)
        for source, count in zip(SOURCES, sources, strict=True):
            metrics.by_source[source].inc(count)
        metrics.prompt_tokens.inc(tokens)
        metrics.cached.inc(tokens - sources[0])
        metrics.queries.inc(tokens)
        metrics.hits.inc(sources[1])
        metrics.external_queries.inc(tokens - sources[1])
        metrics.external_hits.inc(sources[2])
        metrics.generated.inc()
        metrics.finished["length"].inc()
        metrics.request_tokens.observe(tokens)
        metrics.computed_tokens.observe(sources[0])

    @staticmethod
    def _top(text: str, *, wrong: bool) -> dict[str, float]:
        seed = hashlib.blake2b(f"{text}{wrong}".encode(), digest_size=5).digest()
        return {f"token_id:{byte}": -0.5 - rank for rank, byte in enumerate(dict.fromkeys(seed))}


def _salted(chain: list[bytes], salt: str) -> list[bytes]:
    return [salt.encode() + key for key in chain]


def _text(request: dict[str, Any]) -> str:
    """Return a prompt as text: of token ids, four characters for each."""
    if "messages" in request:
        return "".join(message["content"] for message in request["messages"])
    prompt = request["prompt"]
    return prompt if isinstance(prompt, str) else "".join(f"{token:04x}" for token in prompt)
