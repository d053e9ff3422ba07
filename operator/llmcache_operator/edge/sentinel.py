"""Check that the watches still tell the truth, and end the process when they don't.

kopf's streams have died unseen before (nolar/kopf issues 996, 1276), and an index keeps objects that went
away while a stream was being re-listed. So from time to time the API server is asked for names and versions
only, from its cache, and they are compared with the indexes. A difference that outlives a second look makes
`StaleWatchError`: a new process lists everything anew, which heals every cause.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llmcache_operator.edge.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmcache_operator.core.values import Kind

INTERVAL = 300.0
SECOND_LOOK = 20.0
"""Seconds within which a healthy watch has long shown every change."""

log = logging.getLogger(__name__)


class StaleWatchError(Exception):
    """A watch no longer shows what the API server holds."""


class Lister(Protocol):
    """What the API server holds."""

    async def list_versions(self, kind: Kind, namespace: str | None, label: str) -> dict[str, str]:
        """UIDs and resource versions of the objects with a label; raises `ApiError`."""


class Indexes(Protocol):
    """What the watches show."""

    def versions(self, kind: Kind) -> dict[str, str]:
        """UIDs and resource versions of all indexed objects of a kind."""


@dataclass(frozen=True, slots=True)
class Sentinel:
    """Compares `indexes` with `lister` in some namespaces, or all when there are none.

    `kinds` maps every watched kind to the label selector of its watch.
    """

    lister: Lister
    indexes: Indexes
    kinds: Mapping[Kind, str]
    namespaces: tuple[str, ...] = ()

    async def run(self) -> None:
        """Check for ever. Raises `StaleWatchError`."""
        while True:
            await asyncio.sleep(INTERVAL)
            for kind in self.kinds:
                try:
                    await self.check(kind)
                except ApiError as error:
                    log.warning("the watch of %s could not be checked: %s", kind[1], error)

    async def check(self, kind: Kind) -> None:
        """Compare one kind, and once more if it differs. Raises `StaleWatchError`, `ApiError`."""
        shown = self.indexes.versions(kind)
        held = await self._list(kind)
        if not differences(held, shown):
            return
        await asyncio.sleep(SECOND_LOOK)
        later = self.indexes.versions(kind)
        still_held = await self._list(kind)
        expected = {uid: version for uid, version in held.items() if uid in still_held}
        suspects = (shown.keys() - still_held.keys()) | expected.keys()
        if found := differences(expected, {uid: later[uid] for uid in suspects & later.keys()}):
            raise StaleWatchError(f"the watch of {kind[1]} is stale: {'; '.join(found)}")

    async def _list(self, kind: Kind) -> dict[str, str]:
        found: dict[str, str] = {}
        for namespace in self.namespaces or (None,):
            found |= await self.lister.list_versions(kind, namespace, self.kinds[kind])
        return found


def differences(held: Mapping[str, str], shown: Mapping[str, str]) -> list[str]:
    """Where an index falls behind. That it is ahead is in order: the listing comes from a cache."""
    found = [f"{uid} is missing" for uid in held.keys() - shown.keys()]
    found += [f"{uid} is gone" for uid in shown.keys() - held.keys()]
    found += [
        f"{uid} is at {shown[uid]}, not {held[uid]}"
        for uid in held.keys() & shown.keys()
        if int(shown[uid]) < int(held[uid])
    ]
    return sorted(found)
