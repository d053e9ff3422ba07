"""A fake vLLM engine: its HTTP face, its metrics and the time that prefix caching saves, without a model.

    python tests/fakes/engine.py --port 8001 --port 8002 --shared    # two engines over one shared tier

A token is four characters. A prompt costs `prefill_rate` tokens a second for what is in no cache, `reload_rate` for
what only the shared tier holds; prefills of an engine go one after another. Faults are set on `Engine.fault`, or by
POST /fault {"fault": "..."}. Metric names are those of vLLM 0.32.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import signal
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httptools

BLOCK_TOKENS = 16
CHUNK_TOKENS = 256
TOKEN_CHARS = 4


class Fault(StrEnum):
    """What is wrong with an engine."""

    NONE = "none"
    HANG = "hang"  # accepts, never answers, probes included
    SLOW = "slow"  # ten times slower
    DIE = "die"  # cuts the stream after three tokens, in the middle of an event
    REFUSE = "refuse"  # admission refused: 503
    GARBAGE = "garbage"  # answers what is not HTTP


class Lru:
    """A bounded set, least recently used out first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: OrderedDict[bytes, None] = OrderedDict()

    def matched(self, chain: list[bytes]) -> int:
        """Count leading items that are held."""
        for index, item in enumerate(chain):
            if item not in self._items:
                return index
        return len(chain)

    def touch(self, chain: list[bytes]) -> None:
        """Hold a chain; its tail is forgotten first."""
        for item in reversed(chain):
            self._items[item] = None
            self._items.move_to_end(item)
        while len(self._items) > self._capacity:
            self._items.popitem(last=False)


def hash_chain(text: str, tokens: int) -> list[bytes]:
    """Hash each full block of `tokens` tokens together with what precedes it."""
    size, state, chain = tokens * TOKEN_CHARS, hashlib.blake2b(digest_size=8), []
    for start in range(0, len(text) - size + 1, size):
        state.update(text[start : start + size].encode())
        chain.append(state.digest())
    return chain


@dataclass
class Speeds:
    """Tokens a second."""

    prefill: float = 8000.0
    reload: float = 24000.0
    decode: float = 200.0


@dataclass
class Engine:
    """One engine and what it was asked."""

    name: str = "engine"
    model: str = "fake"
    speeds: Speeds = field(default_factory=Speeds)
    cache_tokens: int = 200_000
    shared: Lru | None = None
    fault: Fault = Fault.NONE
    requests: list[dict[str, Any]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    down: bool = False
    accepted: int = 0
    aborted: int = 0
    running: int = 0
    waiting: int = 0
    sources: dict[str, int] = field(
        default_factory=lambda: {"local_compute": 0, "local_cache_hit": 0, "external_kv_transfer": 0}
    )
    generated: int = 0
    ttft_sum: float = 0.0
    ttft_count: int = 0
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._cache = Lru(self.cache_tokens // BLOCK_TOKENS)
        self._prefill = asyncio.Lock()

    def clear(self) -> None:
        """Lose the cache, as a restart does."""
        self._cache = Lru(self.cache_tokens // BLOCK_TOKENS)
        self.started = time.time()

    async def prefill(self, text: str) -> tuple[int, int]:
        """Take the time that the prompt costs; give its tokens and how many came from a cache."""
        begun = time.monotonic()
        self.waiting += 1
        try:
            async with self._prefill:
                tokens = max(1, len(text) // TOKEN_CHARS)
                blocks, chunks = hash_chain(text, BLOCK_TOKENS), hash_chain(text, CHUNK_TOKENS)
                local = self._cache.matched(blocks) * BLOCK_TOKENS
                held = self.shared.matched(chunks) * CHUNK_TOKENS if self.shared else 0
                external = max(0, held - local)
                compute = tokens - local - external
                factor = 10 if self.fault is Fault.SLOW else 1
                await asyncio.sleep(factor * (compute / self.speeds.prefill + external / self.speeds.reload))
                self._cache.touch(blocks)
                if self.shared:
                    self.shared.touch(chunks)
        finally:
            self.waiting -= 1
        for source, count in zip(self.sources, (compute, local, external), strict=True):
            self.sources[source] += count
        self.ttft_sum += time.monotonic() - begun
        self.ttft_count += 1
        return tokens, local + external

    def external_queries(self) -> int:
        """Count the tokens asked of the shared tier; none without one."""
        return self.sources["local_compute"] + self.sources["external_kv_transfer"] if self.shared else 0

    def metrics(self) -> str:
        """Render the metrics that routers and operators read."""
        label = f'engine="0",model_name="{self.model}"'
        prompt, blocks = sum(self.sources.values()), self.cache_tokens // BLOCK_TOKENS
        lines = [
            "# TYPE process_start_time_seconds gauge",
            f"process_start_time_seconds {self.started}",
            f"vllm:num_requests_running{{{label}}} {self.running}",
            f"vllm:num_requests_waiting{{{label}}} {self.waiting}",
            f"vllm:kv_cache_usage_perc{{{label}}} 0.5",
            f"vllm:prompt_tokens_total{{{label}}} {prompt}",
            f"vllm:generation_tokens_total{{{label}}} {self.generated}",
            f"vllm:prefix_cache_queries_total{{{label}}} {prompt}",
            f"vllm:prefix_cache_hits_total{{{label}}} {self.sources['local_cache_hit']}",
            f"vllm:external_prefix_cache_queries_total{{{label}}} {self.external_queries()}",
            f"vllm:external_prefix_cache_hits_total{{{label}}} {self.sources['external_kv_transfer']}",
            f"vllm:time_to_first_token_seconds_sum{{{label}}} {self.ttft_sum}",
            f"vllm:time_to_first_token_seconds_count{{{label}}} {self.ttft_count}",
            f"vllm:request_prefill_time_seconds_sum{{{label}}} {self.ttft_sum}",
            f"vllm:request_prefill_time_seconds_count{{{label}}} {self.ttft_count}",
            f'vllm:cache_config_info{{block_size="{BLOCK_TOKENS}",num_gpu_blocks="{blocks}"}} 1',
        ]
        for source, count in self.sources.items():
            lines.append(f'vllm:prompt_tokens_by_source_total{{{label},source="{source}"}} {count}')
        return "\n".join(lines) + "\n"


def prompt_text(body: dict[str, Any]) -> str:
    """Join the prompt of a request: what a chat template would do."""
    if "messages" in body:
        return "".join(f"<{m['role']}>{content_text(m.get('content'))}" for m in body["messages"])
    prompt = body.get("prompt", body.get("input", ""))
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


def content_text(content: Any) -> str:
    """Flatten a message's content."""
    if isinstance(content, list):
        return "".join(part.get("text", json.dumps(part)) for part in content)
    return content or ""


class Connection(asyncio.Protocol):
    """A keep-alive HTTP/1.1 connection to an engine."""

    def __init__(self, engine: Engine, connections: set["Connection"]) -> None:
        self.engine = engine
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._url = self._body = b""
        self._headers: dict[str, str] = {}
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._connections.add(self)
        self.engine.accepted += 1
        if self.engine.down:
            self.transport.abort()  # was in the backlog of a listener that has closed

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._task is not None and not self._task.done():
            self.engine.aborted += 1
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._body, self._headers = url, b"", {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method, path = self._parser.get_method().decode(), self._url.decode().partition("?")[0]
        answer = self.answer(method, path, self._body, self._headers)
        self._task = asyncio.get_running_loop().create_task(answer)

    async def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        engine = self.engine
        if path == "/fault":
            engine.fault = Fault(json.loads(body)["fault"])
            self.send(200, b"{}")
        elif engine.fault is Fault.HANG:
            await asyncio.Event().wait()
        elif engine.fault is Fault.GARBAGE:
            self.transport.write(b"garbage\r\n\r\n")
            self.transport.close()
        elif path == "/health":
            self.send(200, b"")
        elif path == "/metrics":
            self.send(200, engine.metrics().encode(), "text/plain; version=0.0.4")
        else:
            engine.heads.append({"method": method, "path": path} | headers)
            await self.serve(method, path, body)

    async def serve(self, method: str, path: str, body: bytes) -> None:
        if path == "/v1/models":
            models = [{"id": self.engine.model, "object": "model", "owned_by": "vllm"}]
            self.send(200, json.dumps({"object": "list", "data": models}).encode())
        elif self.engine.fault is Fault.REFUSE:
            self.send(503, b'{"error": {"message": "admission refused", "code": 503}}')
        elif path.startswith("/v1/") and method == "POST":
            await self.infer(path, body)
        else:
            self.send(200, json.dumps({"path": path}).encode())

    def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)

    async def infer(self, path: str, body: bytes) -> None:
        engine = self.engine
        try:
            request = json.loads(body)
        except ValueError:
            self.send(400, b'{"error": {"message": "invalid JSON", "code": 400}}')
            return
        engine.requests.append(request)
        engine.running += 1
        try:
            tokens, cached = await engine.prefill(prompt_text(request))
            usage = {
                "prompt_tokens": tokens,
                "completion_tokens": request.get("max_tokens", 16),
                "prompt_tokens_details": {"cached_tokens": cached},
            }
            if request.get("stream"):
                await self.stream(path, request, usage)
            else:
                await self.decode(usage["completion_tokens"])
                self.send(200, json.dumps(self.completion(path, usage)).encode())
        finally:
            engine.running -= 1

    async def decode(self, count: int) -> None:
        self.engine.generated += count
        await asyncio.sleep(count / self.engine.speeds.decode)

    def completion(self, path: str, usage: dict[str, Any]) -> dict[str, Any]:
        text = "word " * usage["completion_tokens"]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "text": text}
        if "chat" in path:
            choice["message"] = {"role": "assistant", "content": text}
        kind = "chat.completion" if "chat" in path else "text_completion"
        return {
            "id": "cmpl-1",
            "object": kind,
            "created": 1,
            "model": self.engine.model,
            "choices": [choice],
            "usage": usage,
            "engine": self.engine.name,
        }

    async def stream(self, path: str, request: dict[str, Any], usage: dict[str, Any]) -> None:
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.transport.write(head)
        for index in range(usage["completion_tokens"]):
            if index == 3 and self.engine.fault is Fault.DIE:
                self.transport.write(b'40\r\ndata: {"half an ev')
                self.transport.close()
                return
            await self._writable.wait()
            self.event(self.delta(path, f"word{index} "))
            await self.decode(1)
        if (request.get("stream_options") or {}).get("include_usage"):
            self.event(json.dumps({**self.base(path), "choices": [], "usage": usage}))
        self.event("[DONE]")
        self.transport.write(b"0\r\n\r\n")

    def event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))

    def base(self, path: str) -> dict[str, Any]:
        kind = "chat.completion.chunk" if "chat" in path else "text_completion"
        return {"id": "cmpl-1", "object": kind, "created": 1, "model": self.engine.model}

    def delta(self, path: str, text: str) -> str:
        choice: dict[str, Any] = {"index": 0, "finish_reason": None}
        choice |= {"delta": {"content": text}} if "chat" in path else {"text": text}
        return json.dumps({**self.base(path), "choices": [choice]})


@dataclass
class Served:
    """An engine that listens. `stop` is a kill: every connection is cut."""

    engine: Engine
    port: int
    server: asyncio.Server
    connections: set[Connection]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        self.engine.down = True
        self.server.close()
        for connection in tuple(self.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def start_again(self) -> None:
        """Listen on the same port, with an empty cache."""
        self.engine.clear()
        self.engine.down = False
        again = await serve(self.engine, self.port)
        self.server, self.connections = again.server, again.connections


async def serve(engine: Engine, port: int = 0) -> Served:
    """Listen on loopback; port 0 takes a free one."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine, connections), "127.0.0.1", port, backlog=4096)
    return Served(engine, server.sockets[0].getsockname()[1], server, connections)


async def _main(ports: list[int], speeds: Speeds, cache_tokens: int, *, shared: bool) -> None:
    tier = Lru(1 << 20) if shared else None
    for port in ports:
        await serve(Engine(f"engine-{port}", speeds=speeds, cache_tokens=cache_tokens, shared=tier), port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, action="append", required=True, help="one engine for each")
    parser.add_argument("--prefill-rate", type=float, default=8000.0, help="tokens a second")
    parser.add_argument("--reload-rate", type=float, default=24000.0, help="tokens a second")
    parser.add_argument("--decode-rate", type=float, default=200.0, help="tokens a second of each request")
    parser.add_argument("--cache-tokens", type=int, default=200_000, help="size of an engine's own cache")
    parser.add_argument("--shared", action="store_true", help="put a shared tier behind the engines")
    flags = parser.parse_args()
    rates = Speeds(flags.prefill_rate, flags.reload_rate, flags.decode_rate)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(flags.port, rates, flags.cache_tokens, shared=flags.shared))
