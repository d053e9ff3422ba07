"""One reconcile, strictly one way: observe → decide → apply → prune → outcome → status → Events.

Observation reads the watches' indexes and the memory of our own writes, never the API server, so that a
reconcile of a service at rest costs no request at all. Nothing but `/status` is written to the resource.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from llmcache_operator.core.outcome import outcome, should_write
from llmcache_operator.core.pod_start import worth_asking
from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.values import Json, Observed, Outcome, SelfTest, ServiceKey, Settings
from llmcache_operator.edge.applying import Application, NamespaceGoneError
from llmcache_operator.edge.complaints import AGAIN, complaints
from llmcache_operator.edge.errors import ApiError, RetryLaterError
from llmcache_operator.edge.memory import Memories, Memory, ref_of, trimmed

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmcache_operator.core.window import Measurement
    from llmcache_operator.edge.cluster import Cluster
    from llmcache_operator.edge.events import Recorder
    from llmcache_operator.edge.metrics import Metrics

RESYNC = 600.0
"""Seconds after which a service is looked at even if nothing happened; give or take a tenth."""

log = logging.getLogger(__name__)


class View(Protocol):
    """What the watches know."""

    def service(self, key: ServiceKey) -> Json | None:
        """Return the custom resource, or None when there is none of that name."""

    def children(self, uid: str) -> tuple[Json, ...]:
        """Return the objects whose controller owner has this UID."""

    def pods(self, key: ServiceKey) -> tuple[Json, ...]:
        """Return the pods that carry the service's label in its namespace."""


class MeasurementStore(Protocol):
    """What the scrapes found."""

    def measurement(self, key: ServiceKey, uid: str) -> Measurement:
        """Return everything measured of one service; an empty measurement if nothing was."""

    def forget(self, key: ServiceKey) -> None:
        """Drop what was measured of a service that is gone."""


class SelfTests(Protocol):
    """What carries out self-tests."""

    def start(self, test: SelfTest) -> None:
        """Begin a test in the background, unless one of this service is under way. Returns at once."""


@dataclass(slots=True)
class Reconciler:
    """Makes one service true. `clock` gives Unix time in seconds, `jitter` numbers from 0.0 to below 1.0."""

    view: View
    cluster: Cluster
    settings: Settings
    measurements: MeasurementStore
    recorder: Recorder
    metrics: Metrics
    self_tests: SelfTests
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    memories: Memories = field(default_factory=Memories)

    async def __call__(self, key: ServiceKey) -> float | None:
        """Reconcile; seconds until the next look, or None when the service is gone.

        Raises `RetryLaterError` when another try is due for reasons outside the service.
        """
        resource = self.view.service(key)
        if resource is None:
            self.memories.forget(key)
            self.measurements.forget(key)
            self.metrics.services.forget(key)
            return None
        if resource["metadata"].get("deletionTimestamp"):
            return None
        now = self.clock()
        memory = self.memories.of(key, resource["metadata"]["uid"], now)
        if memory.over:
            return None
        try:
            return await self._make_true(key, resource, memory, now)
        except NamespaceGoneError:
            memory.over = True
            log.info("the namespace is being deleted: nothing left to do", extra={"about": about(resource)})
            return None

    async def _make_true(self, key: ServiceKey, resource: Json, memory: Memory, now: float) -> float:
        observed = self._observe(key, resource, memory, now)
        decision = decide(observed, self.settings)
        application = Application(self.cluster, self.metrics, memory, now, about(resource))
        await application.carry_out(decision.plan, {ref_of(child): child for child in observed.children})
        observed = self._observe(key, resource, memory, now)
        observed = replace(observed, complaints=await complaints(self.cluster, observed.pods, now))
        measurement = self.measurements.measurement(key, memory.uid)
        result = outcome(decision, observed, application.rejections, measurement, now)
        self.metrics.services.show(key, result.status)
        await self._tell(observed.resource, result, memory, now)
        if result.self_test is not None:
            self.self_tests.start(result.self_test)
        if application.retry is not None:
            raise application.retry
        return self._next_look(result, memory, observed, now)

    def _observe(self, key: ServiceKey, resource: Json, memory: Memory, now: float) -> Observed:
        children = memory.children(self.view.children(memory.uid), now)
        return Observed(memory.resource(resource), tuple(children.values()), self.view.pods(key))

    async def _tell(self, resource: Json, result: Outcome, memory: Memory, now: float) -> None:
        before = resource.get("status") or {}
        if not should_write(before, result.status, memory.written_at, now, self.settings):
            return
        try:
            answer = await self.cluster.apply_status(resource, result.status)
        except ApiError as error:
            if error.code == 404:
                log.info("gone before its status was written", extra={"about": about(resource)})
                return
            raise RetryLaterError(f"status was not written: {error}", after=error.retry_after) from None
        memory.written, memory.written_at = trimmed(answer), now
        self.metrics.status_writes.inc()
        for transition in result.transitions:
            log.info("%s: %s", transition.reason, transition.message, extra={"about": about(resource)})
            await self.recorder.post(resource, transition)
            self.metrics.events.labels(transition.kind).inc()

    def _next_look(self, result: Outcome, memory: Memory, observed: Observed, now: float) -> float:
        asking = AGAIN if worth_asking(observed.pods, now) else None
        waits = (RESYNC * (0.9 + self.jitter() / 5), result.requeue_after, memory.look_again_in(now), asking)
        return min(wait for wait in waits if wait is not None)


def about(resource: Json) -> dict[str, object]:
    """Return what every log line about a service carries."""
    meta = resource["metadata"]
    return {field: meta.get(field) for field in ("namespace", "name", "uid", "generation")}
