"""Which optional kinds there are, and that a change of that ends the process, but a hiccup doesn't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmcache_operator.edge.discovery import Discovery, KindsChangedError
from llmcache_operator.edge.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmcache_operator.core.values import Kind

A, B = ("a.example.org/v1", "Apple"), ("b.example.org/v1", "Berry")
AWAY = ApiError(0, "Unreachable", "nobody answers")
pytestmark = pytest.mark.looptime


class Cluster:
    """Offers `kinds`; `script` runs before each answer, with its number."""

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = set(kinds)
        self.asked: list[tuple[str, str | None]] = []
        self.script: Callable[[int], None] = lambda _: None

    async def can_list(self, kind: Kind, namespace: str | None) -> bool:
        self.asked.append((kind[1], namespace))
        self.script(len(self.asked))
        return kind in self.kinds


async def begun(cluster: Cluster, *namespaces: str) -> Discovery:
    discovery = Discovery(cluster, namespaces, (A, B))
    await discovery.begin()
    return discovery


async def test_those_that_are_there_are_found() -> None:
    assert (await begun(Cluster(A))).kinds == {A}
    assert (await begun(Cluster())).kinds == set()


async def test_a_kind_must_be_there_in_every_namespace_that_is_served() -> None:
    cluster = Cluster(A)
    cluster.script = lambda number: cluster.kinds.discard(A) if number == 2 else None

    assert (await begun(cluster, "one", "two")).kinds == set()
    assert cluster.asked[:2] == [("Apple", "one"), ("Apple", "two")]


async def test_it_begins_once_somebody_answers() -> None:
    cluster = Cluster(B)

    def away(number: int) -> None:
        if number <= 3:
            raise AWAY

    cluster.script = away

    assert (await begun(cluster)).kinds == {B}


@pytest.mark.parametrize("after", [{A, B}, set()], ids=["another comes", "one goes"])
async def test_a_change_ends_the_process(after: set[Kind]) -> None:
    cluster = Cluster(A)
    discovery = await begun(cluster)
    cluster.kinds = after

    with pytest.raises(KindsChangedError, match="changed from Apple to"):
        await discovery.run()


async def test_a_kind_that_is_missing_for_a_moment_is_no_change() -> None:
    cluster = Cluster(A)
    discovery = await begun(cluster)
    cluster.kinds.clear()
    cluster.script = lambda number: cluster.kinds.add(A) if number == 5 else None

    await discovery.check()

    assert len(cluster.asked) == 6


async def test_an_api_server_that_is_away_is_no_change() -> None:
    cluster = Cluster(A)
    discovery = await begun(cluster)

    def away(number: int) -> None:
        if number == 3:
            raise AWAY
        cluster.kinds.clear()

    cluster.script = away

    with pytest.raises(KindsChangedError):
        await discovery.run()
    assert len(cluster.asked) == 7
