"""The queue: one worker a key, nothing lost, nothing done twice, patience after failures. Time is simulated."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from llmcache_operator.core.values import ServiceKey
from llmcache_operator.edge.errors import RetryLaterError
from llmcache_operator.edge.workqueue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.looptime
A, B = ServiceKey("ns", "a"), ServiceKey("ns", "b")


@asynccontextmanager
async def working(
    queue: WorkQueue, handle: Callable[[ServiceKey], Awaitable[float | None]], workers: int = 2
) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(queue.work(handle)) for _ in range(workers)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Worker:
    """Notes when which key was worked on; does it in a second."""

    def __init__(self, *outcomes: float | Exception | None) -> None:
        self.times: dict[ServiceKey, list[float]] = {}
        self.at_once = 0
        self.most_at_once = 0
        self._outcomes = list(outcomes)

    async def __call__(self, key: ServiceKey) -> float | None:
        self.times.setdefault(key, []).append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(1)
        self.at_once -= 1
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_a_key_that_waits_is_worked_on_once() -> None:
    queue, worker = WorkQueue(), Worker()
    for _ in range(5):
        queue.add(A)

    async with working(queue, worker):
        await asyncio.sleep(10)

    assert worker.times == {A: [0.0]}
    assert queue.idle


async def test_a_key_that_is_added_during_its_work_is_worked_on_once_more_afterwards() -> None:
    queue, worker = WorkQueue(), Worker()

    async with working(queue, worker):
        queue.add(A)
        await asyncio.sleep(0.5)
        for _ in range(5):
            queue.add(A)
        await asyncio.sleep(10)

    assert worker.times == {A: [0.0, 1.0]}
    assert worker.most_at_once == 1


async def test_different_keys_are_worked_on_at_the_same_time() -> None:
    queue, worker = WorkQueue(), Worker()
    queue.add(A)
    queue.add(B)

    async with working(queue, worker):
        await asyncio.sleep(0.5)
        assert worker.at_once == 2


async def test_a_key_comes_back_when_its_work_said_so() -> None:
    queue, worker = WorkQueue(), Worker(30.0, None)
    queue.add(A)

    async with working(queue, worker):
        await asyncio.sleep(100)

    assert worker.times == {A: [0.0, 31.0]}


async def test_the_soonest_of_several_dates_counts() -> None:
    queue, worker = WorkQueue(), Worker()
    queue.add_after(A, 20)
    queue.add_after(A, 5)
    queue.add_after(A, 50)

    async with working(queue, worker):
        await asyncio.sleep(100)

    assert worker.times == {A: [5.0]}


async def test_failures_wait_twice_as_long_each_time_up_to_the_limit() -> None:
    queue = WorkQueue(least=1.0, most=8.0, jitter=lambda: 0.0)
    worker = Worker(*(RetryLaterError("busy") for _ in range(6)))
    queue.add(A)

    async with working(queue, worker):
        await asyncio.sleep(100)

    starts = worker.times[A]
    waits = [later - earlier - 1 for earlier, later in itertools.pairwise(starts)]
    assert waits == [1, 2, 4, 8, 8, 8]


async def test_a_success_forgets_the_failures_before_it() -> None:
    queue = WorkQueue(jitter=lambda: 0.0)
    worker = Worker(RetryLaterError("busy"), RetryLaterError("busy"), 10.0, RetryLaterError("busy"))
    queue.add(A)

    async with working(queue, worker):
        await asyncio.sleep(100)

    assert worker.times == {A: [0.0, 2.0, 5.0, 16.0, 18.0]}


async def test_what_the_server_asked_for_is_waited() -> None:
    queue, worker = WorkQueue(), Worker(RetryLaterError("slow down", after=60.0))
    queue.add(A)

    async with working(queue, worker):
        await asyncio.sleep(100)

    assert worker.times == {A: [0.0, 61.0]}


async def test_jitter_spreads_failures_over_half_the_wait() -> None:
    queue, worker = WorkQueue(least=10.0, jitter=lambda: 0.5), Worker(RetryLaterError("busy"))
    queue.add(A)

    async with working(queue, worker):
        await asyncio.sleep(100)

    assert worker.times == {A: [0.0, 8.5]}


async def test_a_bug_is_logged_with_its_traceback_and_ends_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    queue, worker = WorkQueue(jitter=lambda: 0.0), Worker(KeyError("oops"))
    queue.add(A)

    async with working(queue, worker, workers=1):
        await asyncio.sleep(10)

    assert worker.times == {A: [0.0, 2.0]}
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_an_expected_failure_is_one_line_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    queue, worker = WorkQueue(jitter=lambda: 0.0), Worker(RetryLaterError("the API server is away"))
    queue.add(A)

    async with working(queue, worker):
        await asyncio.sleep(10)

    assert [record.exc_info for record in caplog.records] == [None]
    assert "the API server is away" in caplog.text


async def test_it_is_told_how_long_each_key_waited_for_a_worker() -> None:
    waits: list[float] = []
    queue, worker = WorkQueue(waited=waits.append), Worker()
    queue.add(A)
    queue.add(B)
    async with working(queue, worker, workers=1):
        await asyncio.sleep(2.5)

    assert waits == pytest.approx([0, 1])
