"""A guard that started again says that its LMCache server has to, which connects only once."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from llmcache_runtime.l2guard.server import Server
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 4


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class LMCache:
    """An LMCache server: what its /healthcheck answers, and its connections to a guard."""

    port: int
    status: int = 200
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        lmcache = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lmcache.asked.append(self.path)
                self.send_response(lmcache.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as http:
            thread = threading.Thread(target=http.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield
            finally:
                http.shutdown()
                thread.join()

    def connect(self, guard: Server, stack: ExitStack, count: int = CONNECTIONS) -> None:
        for _ in range(count):
            stack.enter_context(guard.connected())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lmcache() -> LMCache:
    return LMCache(free_port())


def guard_of(lmcache: LMCache, clock: Clock) -> Server:
    return Server(("127.0.0.1", lmcache.port), CONNECTIONS, clock)


def test_a_server_with_all_its_connections_is_well(lmcache: LMCache, clock: Clock) -> None:
    guard = guard_of(lmcache, clock)
    with lmcache.running(), ExitStack() as connections:
        lmcache.connect(guard, connections)
        clock.now += 600
        assert guard.trouble() is None
    assert lmcache.asked == ["/healthcheck"]


def test_a_server_is_given_time_to_connect_and_no_more(lmcache: LMCache, clock: Clock) -> None:
    """It may have been there before its guard, or found none when it started."""
    with lmcache.running():
        guard = guard_of(lmcache, clock)
        assert guard.trouble() is None
        clock.now += 5
        assert f"0 of {CONNECTIONS} connections" in (guard.trouble() or "")


@pytest.mark.parametrize("lost", [1, CONNECTIONS])
def test_lost_connections_are_told_after_a_while_and_until_they_are_back(
    lmcache: LMCache, clock: Clock, lost: int
) -> None:
    guard = guard_of(lmcache, clock)
    with lmcache.running(), ExitStack() as kept, ExitStack() as others:
        lmcache.connect(guard, kept, CONNECTIONS - lost)
        lmcache.connect(guard, others, lost)
        clock.now += 600
        others.close()
        assert guard.trouble() is None
        clock.now += 5
        assert f"{CONNECTIONS - lost} of {CONNECTIONS} connections" in (guard.trouble() or "")
        lmcache.connect(guard, kept, lost)
        assert guard.trouble() is None


def test_somebody_else_who_connects_and_leaves_is_nobodys_trouble(lmcache: LMCache, clock: Clock) -> None:
    guard = guard_of(lmcache, clock)
    with lmcache.running(), ExitStack() as others:
        with ExitStack() as connections:
            lmcache.connect(guard, connections)
            lmcache.connect(guard, others, 1)
            others.close()
            clock.now += 600
            assert guard.trouble() is None
        with ExitStack() as connections:
            lmcache.connect(guard, connections)
            clock.now += 600
            assert guard.trouble() is None, "it was started again"


def test_a_server_that_is_not_well_is_told_in_its_own_words(lmcache: LMCache, clock: Clock) -> None:
    guard = guard_of(lmcache, clock)
    assert "does not answer" in (guard.trouble() or "")
    lmcache.status = 503
    with lmcache.running():
        assert "is not well: 503" in (guard.trouble() or "")
