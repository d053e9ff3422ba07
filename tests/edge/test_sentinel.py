"""The sentinel trips over a watch that went stale, and over nothing that a healthy one does. Simulated time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from llmcache_operator.edge.errors import ApiError
from llmcache_operator.edge.sentinel import INTERVAL, SECOND_LOOK, Sentinel, StaleWatchError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.looptime
POD = ("v1", "Pod")
Versions = dict[str, str]


@dataclass
class Both:
    """What the API server holds and what the watches show; `later` changes both before the second look."""

    held: Versions
    shown: Versions
    later: Callable[[Both], None] = lambda both: None
    looks: int = 0
    errors: list[ApiError] = field(default_factory=list)

    async def list_versions(self, kind: tuple[str, str], namespace: str | None, label: str) -> Versions:
        if self.errors:
            raise self.errors.pop()
        self.looks += 1
        listed = dict(self.held)
        if self.looks == 1:
            asyncio.get_running_loop().call_later(SECOND_LOOK / 2, self.later, self)
        return listed

    def versions(self, kind: tuple[str, str]) -> Versions:
        return dict(self.shown)


async def check(both: Both) -> None:
    await Sentinel(both, both, {POD: "a=b"}).check(POD)


async def test_equal_views_are_looked_at_once() -> None:
    both = Both({"a": "5"}, {"a": "5"})

    await check(both)

    assert both.looks == 1


async def test_a_watch_may_be_ahead_of_the_listing() -> None:
    await check(Both({"a": "5"}, {"a": "6"}))


def catch_up(both: Both) -> None:
    both.shown = dict(both.held)


def move_on(both: Both) -> None:
    """The watch showed the change, and by now there is a newer one that it has not shown yet."""
    both.shown = dict(both.held)
    both.held = {uid: str(int(version) + 1) for uid, version in both.held.items()} | {"new": "99"}


def vanish(both: Both) -> None:
    """What was missing or behind is gone, on both sides."""
    both.held, both.shown = {}, {}


@pytest.mark.parametrize("later", [catch_up, move_on, vanish])
@pytest.mark.parametrize(
    ("held", "shown"),
    [({"a": "5"}, {}), ({}, {"a": "5"}), ({"a": "7"}, {"a": "5"})],
    ids=["missing", "gone", "behind"],
)
async def test_a_watch_that_catches_up_is_healthy(
    held: Versions, shown: Versions, later: Callable[[Both], None]
) -> None:
    both = Both(held, shown, later)

    await check(both)

    assert both.looks == 2


@pytest.mark.parametrize(
    ("held", "shown", "what"),
    [
        ({"a": "5"}, {}, "a is missing"),
        ({}, {"a": "5"}, "a is gone"),
        ({"a": "7"}, {"a": "5"}, "a is at 5, not 7"),
    ],
    ids=["missing", "gone", "behind"],
)
async def test_a_watch_that_stays_behind_is_stale(held: Versions, shown: Versions, what: str) -> None:
    with pytest.raises(StaleWatchError, match=f"the watch of Pod is stale: {what}"):
        await check(Both(held, shown))


async def test_every_kind_is_checked_again_and_again_and_an_error_stops_nothing() -> None:
    both = Both({}, {}, errors=[ApiError(503, "ServiceUnavailable", "away")])
    running = asyncio.create_task(Sentinel(both, both, {POD: "a=b"}, ("ns", "other")).run())

    await asyncio.sleep(INTERVAL * 3 + 1)

    assert both.looks == 4
    assert not running.done()
    running.cancel()
