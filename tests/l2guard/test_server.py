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
    return Server(("127.0.0.1", lmcache.port), clock)


def test_a_server_that_comes_after_its_guard_is_well(lmcache: LMCache, clock: Clock) -> None:
    guard = guard_of(lmcache, clock)
    with lmcache.running(), ExitStack() as connections:
        assert guard.trouble() is None
        clock.now += 600
        assert guard.trouble() is None, "LMCache may connect when it needs it"
        lmcache.connect(guard, connections)
        clock.now += 600
        assert guard.trouble() is None
    assert set(lmcache.asked) == {"/healthcheck"}


def test_a_server_that_was_there_before_its_guard_has_lost_it(lmcache: LMCache, clock: Clock) -> None:
    with lmcache.running():
        guard = guard_of(lmcache, clock)
        assert guard.trouble() is None
        clock.now += 5
        assert "lost 1 of 1 connections" in (guard.trouble() or "")


def test_a_server_that_was_there_before_and_connects_anew_is_well(lmcache: LMCache, clock: Clock) -> None:
    """A later LMCache may."""
    with lmcache.running(), ExitStack() as connections:
        guard = guard_of(lmcache, clock)
        lmcache.connect(guard, connections)
        clock.now += 600
        assert guard.trouble() is None


@pytest.mark.parametrize("lost", [1, CONNECTIONS])
def test_a_lost_connection_is_told_after_a_while_and_until_it_is_back(
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
        assert f"lost {lost} of {CONNECTIONS} connections" in (guard.trouble() or "")
        lmcache.connect(guard, kept, lost)
        assert guard.trouble() is None


@pytest.mark.parametrize("refused", [True, False])
def test_a_server_that_is_not_well_is_given_time(lmcache: LMCache, clock: Clock, *, refused: bool) -> None:
    guard = guard_of(lmcache, clock)
    with ExitStack() as stack:
        if not refused:
            lmcache.status = 503
            stack.enter_context(lmcache.running())
        clock.now += 59
        assert guard.trouble() is None
        clock.now += 1
        assert "not been well for 60 s" in (guard.trouble() or "")


def test_a_server_that_was_well_in_between_is_given_time_again(lmcache: LMCache, clock: Clock) -> None:
    guard = guard_of(lmcache, clock)
    clock.now += 59
    with lmcache.running():
        assert guard.trouble() is None
    clock.now += 59
    assert guard.trouble() is None
