"""The token bucket: bursts pass, the long run is limited, and waiting is fair. Time is simulated."""

from __future__ import annotations

import asyncio

import pytest

from llmcache_operator.edge.bucket import TokenBucket

pytestmark = pytest.mark.looptime


async def _times(bucket: TokenBucket, calls: int) -> list[float]:
    loop, times = asyncio.get_running_loop(), []
    for _ in range(calls):
        await bucket.take()
        times.append(round(loop.time(), 3))
    return times


async def test_a_burst_passes_and_the_rest_comes_at_the_rate() -> None:
    assert await _times(TokenBucket(10.0, 3), 6) == [0.0, 0.0, 0.0, 0.1, 0.2, 0.3]


async def test_a_pause_fills_the_bucket_up_to_the_burst() -> None:
    bucket = TokenBucket(10.0, 3)
    await _times(bucket, 3)

    await asyncio.sleep(60)

    assert await _times(bucket, 4) == [60.0, 60.0, 60.0, 60.1]


async def test_who_came_first_goes_first() -> None:
    bucket, order = TokenBucket(1.0, 1), []

    async def take(name: str) -> None:
        await bucket.take()
        order.append(name)

    await asyncio.gather(*(take(name) for name in "abc"))

    assert order == ["a", "b", "c"]
