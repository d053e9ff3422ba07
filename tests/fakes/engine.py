"""A fake vLLM engine: its HTTP face over `tests.fakes.vllm`.

    python -m tests.fakes.engine --port 8001 --port 8002 --shared    # two engines over one shared tier

Faults are set on `Engine.fault`, or by POST /fault {"fault": "..."}.
"""

import argparse
import asyncio
import contextlib
import json
import signal
from dataclasses import dataclass
from typing import Any

import httptools

from tests.fakes.vllm import Engine, Fault, Lru, Speeds

__all__ = ["Engine", "Fault", "Lru", "Served", "Speeds", "serve"]


def prompt_text(body: dict[str, Any]) -> str:
    """Join the prompt of a request: what a chat template would do."""
    if "messages" in body:
        return "".join(f"<{m['role']}>{content_text(m.get('content'))}" for m in body["messages"])
    prompt = body.get("prompt", body.get("input", ""))
    if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
        return "".join(f"{token:04x}" for token in prompt)
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
            found = await engine.prefill(prompt_text(request), request.get("cache_salt", ""))
            details = {"cached_tokens": found.cached} if engine.tells_cached else None
            usage = {
                "prompt_tokens": found.tokens,
                "completion_tokens": request.get("max_tokens", 16),
                "prompt_tokens_details": details,
            }
            if request.get("stream"):
                await self.stream(path, request, usage)
            else:
                await self.decode(usage["completion_tokens"])
                answer = self.completion(path, usage)
                if count := request.get("logprobs"):
                    answer["choices"][0]["logprobs"] = {"top_logprobs": [found.top(count)]}
                self.send(200, json.dumps(answer).encode())
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


async def serve(engine: Engine, port: int = 0, host: str = "127.0.0.1") -> Served:
    """Listen on loopback; port 0 takes a free one."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine, connections), host, port, backlog=4096)
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
