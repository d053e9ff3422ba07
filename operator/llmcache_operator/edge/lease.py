"""Leader election by Lease: one process writes, the others wait.

Not `kubernetes.aio.leaderelection` 37.0: it renews without a time-out of its own (its calls may take five
minutes, past the deadline they guard), writes local time as UTC, drops `leaseTransitions`, can't release,
and logs a traceback for an ordinary 409. The rules here are client-go's
(k8s.io/client-go/tools/leaderelection/leaderelection.go), with its times: a Lease counts as expired when it
hasn't changed for its duration *as seen here*, so clocks need not agree.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmcache_operator.edge.cluster import LEASE_API
from llmcache_operator.edge.errors import ApiError

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json
    from llmcache_operator.edge.cluster import Cluster

DURATION = 15
RENEW_DEADLINE = 10.0
RETRY_PERIOD = 2.0

log = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Somebody else may lead now: stop writing at once."""


class Elector:
    """One candidate, `identity`, for one Lease. Times are in seconds."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease: Json | None = None
        self._current = False
        self._changed_at = 0.0
        self._renewed_at: float | None = None
        self.heard_at: float | None = None
        """When the API server last answered about the Lease, in the event loop's time."""

    def why_unheard(self) -> str:
        """Why this process can't be counted on, or an empty string: nothing was heard of the Lease lately."""
        if self.heard_at is None:
            return "the API server has not answered yet"
        silence = asyncio.get_running_loop().time() - self.heard_at
        return f"the API server has not answered for {silence:.0f} s" if silence > DURATION else ""

    def check(self) -> None:
        """Raise `ApiError` unless the Lease is surely ours: a process that was frozen wakes up in the middle."""
        now = asyncio.get_running_loop().time()
        if self._renewed_at is None or now - self._renewed_at >= DURATION:
            raise ApiError(0, "NotLeading", f"the Lease {self._name} ran out, so nothing is written")

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        told = ""
        while not await self._try_once():
            if self._holder != told:
                told = self._holder
                log.info("waiting for the Lease %s/%s, held by %s", self._namespace, self._name, told)
            await asyncio.sleep(RETRY_PERIOD)
        log.info("leading as %s", self._identity)

    async def hold(self) -> None:
        """Renew for ever. Raises `LeaseLostError`."""
        while True:
            await asyncio.sleep(RETRY_PERIOD)
            try:
                async with asyncio.timeout(RENEW_DEADLINE):
                    while not await self._try_once():
                        if self._lease is not None and self._holder != self._identity:
                            raise LeaseLostError(f"the Lease {self._name} was taken by {self._holder}")
                        await asyncio.sleep(RETRY_PERIOD)
            except TimeoutError:
                why = f"the Lease {self._name} could not be renewed for {RENEW_DEADLINE:.0f} s"
                raise LeaseLostError(why) from None

    async def release(self) -> None:
        """Let the next one lead without a wait, if we led."""
        if self._lease is None or self._holder != self._identity:
            return
        lease = _signed(self._lease, "", 1)
        try:
            await self._cluster.replace_lease(lease)
        except ApiError as error:
            log.warning("the Lease was not released: %s; the next leader waits %d s", error, DURATION)

    async def _try_once(self) -> bool:
        """Take or renew the Lease if it is free, expired or ours; whether it is ours now."""
        sent_at = asyncio.get_running_loop().time()
        try:
            if not self._current:
                await self._look()
            if not self._may_take():
                return False
            if self._lease is None:
                answer = await self._cluster.create_lease(_signed(self._blank(), self._identity, DURATION))
            else:
                answer = await self._cluster.replace_lease(_signed(self._lease, self._identity, DURATION))
        except ApiError as error:
            self._current = False
            # 409: somebody was faster, or an own write arrived whose answer was lost. The next look tells.
            if error.code != 409:
                log.warning("the Lease could not be read or written: %s", error)
            return False
        self._note(answer)
        self._current = True
        self._renewed_at = sent_at
        return True

    async def _look(self) -> None:
        try:
            self._note(await self._cluster.get_lease(self._namespace, self._name))
        except ApiError as error:
            if error.code != 404:
                raise
            self._lease = None

    def _note(self, lease: Json) -> None:
        now = asyncio.get_running_loop().time()
        self.heard_at = now
        if self._lease is None or lease["spec"] != self._lease["spec"]:
            self._changed_at = now
        self._lease = lease

    def _may_take(self) -> bool:
        if self._lease is None or self._holder in {"", self._identity}:
            return True
        duration = self._lease["spec"].get("leaseDurationSeconds") or DURATION
        return bool(asyncio.get_running_loop().time() >= self._changed_at + duration)

    @property
    def _holder(self) -> str:
        spec = self._lease["spec"] if self._lease else {}
        return spec.get("holderIdentity") or ""

    def _blank(self) -> Json:
        meta = {"name": self._name, "namespace": self._namespace}
        return {"apiVersion": LEASE_API, "kind": "Lease", "metadata": meta, "spec": {}}


def _signed(lease: Json, holder: str, duration: int) -> Json:
    """Return the Lease with a holder, and the times and the count of transitions that follow from it."""
    spec = dict(lease.get("spec") or {})
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if holder and spec.get("holderIdentity") != holder:
        spec["acquireTime"] = now
        spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
    spec.update(holderIdentity=holder, leaseDurationSeconds=duration, renewTime=now)
    return {**lease, "spec": spec}
