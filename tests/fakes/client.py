"""A cheap client that streams, and says how each stream ended."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import httptools


class End(StrEnum):
    """How a stream ended."""

    WHOLE = "whole"
    TOLD = "told"  # cut, with an error event
    CUT = "cut"  # cut, and nobody said so
    REFUSED = "refused"  # no stream: another status than 200, or no answer


@dataclass(frozen=True)
class Outcome:
    """A stream: when it was asked for (monotonic), and how it ended."""

    started: float
    end: End


class Stream(asyncio.Protocol):
    """One connection, one request, one stream."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._body = b""
        self.end: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._finish(whole=self._body.endswith(b"data: [DONE]\n\n"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(whole=False)

    def _finish(self, *, whole: bool) -> None:
        if self.end.done():
            return
        if self._status != 200:
            self.end.set_result(End.REFUSED)
        elif whole:
            self.end.set_result(End.WHOLE)
        else:
            self.end.set_result(End.TOLD if b'"engine_lost"' in self._body else End.CUT)


async def stream(port: int, text: str, tokens: int) -> Outcome:
    """Ask the router at a port for a stream, on a connection of its own."""
    body = {"model": "fake", "stream": True, "max_tokens": tokens, "messages": [{"role": "user", "content": text}]}
    data = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    started = time.monotonic()
    try:
        transport, client = await asyncio.get_running_loop().create_connection(Stream, "127.0.0.1", port)
    except OSError:
        return Outcome(started, End.REFUSED)
    transport.write(head % len(data) + data)
    try:
        return Outcome(started, await client.end)
    finally:
        transport.abort()


async def streams(port: Callable[[], int], count: int, tokens: int = 5, at_once: int = 50) -> list[Outcome]:
    """Ask for many streams, a number of them at once; `port` is asked before each."""
    numbers = iter(range(count))

    async def worker() -> list[Outcome]:
        return [await stream(port(), f"{number} says hello", tokens) for number in numbers]

    return [outcome for outcomes in await asyncio.gather(*(worker() for _ in range(at_once))) for outcome in outcomes]
