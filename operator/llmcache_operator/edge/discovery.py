"""Which of the optional kinds the cluster has: those whose CRD somebody else brings, or doesn't.

A kind is there if it can be listed, which any operator that is to watch it has to be able to do: so no right to read
CRDs is needed, and a role that leaves a kind out turns off what needs it. The question is one small request a kind and
namespace. What kopf watches is fixed when it starts, so a change ends the process, and a new one starts from
the new answer: a CRD comes or goes once in the life of a cluster.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from llmcache_operator.edge.errors import ApiError
from llmcache_operator.edge.watching import OPTIONAL

if TYPE_CHECKING:
    from collections.abc import Collection

    from llmcache_operator.core.values import Kind

INTERVAL = 60.0
SECOND_LOOK = 5.0
"""Seconds after which a change has to be there still: an API server that starts may not know every CRD yet."""
RETRY = 2.0

log = logging.getLogger(__name__)


class KindsChangedError(Exception):
    """A CRD that the operator makes use of has come or gone."""


class Lister(Protocol):
    """What the API server offers."""

    async def can_list(self, kind: Kind, namespace: str | None) -> bool:
        """Whether a kind is served to us; raises `ApiError` where that can't be told."""


class Discovery:
    """Asks for the optional kinds in some namespaces, or all when there are none."""

    def __init__(self, lister: Lister, namespaces: Collection[str] = (), optional: Collection[Kind] = OPTIONAL) -> None:
        self._lister = lister
        self._namespaces = namespaces or (None,)
        self._optional = optional
        self.kinds: frozenset[Kind] = frozenset()
        """What `begin` found."""

    async def begin(self) -> None:
        """Ask until there is an answer."""
        while True:
            try:
                self.kinds = await self._ask()
            except ApiError as error:
                log.warning("optional kinds could not be asked for: %s", error)
                await asyncio.sleep(RETRY)
                continue
            log.info("optional kinds in this cluster: %s", _names(self.kinds) or "none")
            return

    async def run(self) -> None:
        """Ask for ever. Raises `KindsChangedError`."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.check()
            except ApiError as error:
                log.warning("optional kinds could not be asked for: %s", error)

    async def check(self) -> None:
        """Ask once, and once more if the answer is another. Raises `KindsChangedError`, `ApiError`."""
        if await self._ask() == self.kinds:
            return
        await asyncio.sleep(SECOND_LOOK)
        now = await self._ask()
        if now != self.kinds:
            before, after = (_names(kinds) or "none" for kinds in (self.kinds, now))
            raise KindsChangedError(f"the optional kinds in this cluster changed from {before} to {after}")

    async def _ask(self) -> frozenset[Kind]:
        return frozenset([kind for kind in self._optional if await self._everywhere(kind)])

    async def _everywhere(self, kind: Kind) -> bool:
        return all([await self._lister.can_list(kind, namespace) for namespace in self._namespaces])


def _names(kinds: Collection[Kind]) -> str:
    return ", ".join(sorted(kind for _, kind in kinds))
