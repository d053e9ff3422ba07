"""Events of `events.k8s.io/v1` for transitions, the repeated ones aggregated into a series.

The rules are client-go's (k8s.io/client-go/tools/events/event_broadcaster.go): an equal event within six minutes
doesn't make a new object but counts up `series` of the first, whose note stays. Two that differ in numbers only are
equal: "1 of 2 engines" and "2 of 3 engines" tell the same. Events are a courtesy: one that can't be written is logged
and forgotten.
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmcache_operator.edge.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmcache_operator.core.values import Json, Transition
    from llmcache_operator.edge.cluster import Cluster

CONTROLLER = "llmcache.dev/operator"
SERIES_WINDOW = 360.0
REMEMBERED = 512
NOTE_LIMIT, INSTANCE_LIMIT = 1024, 128
"""Bytes that the API server takes (k8s.io/kubernetes/pkg/apis/core/validation/events.go)."""

_NUMBER = re.compile(r"\b\d+\b")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Series:
    event: Json
    count: int
    last: float


class Recorder:
    """Posts Events about services; `instance` names this process; `clock` gives Unix time in seconds."""

    def __init__(self, cluster: Cluster, instance: str, clock: Callable[[], float] = time.time) -> None:
        self._cluster = cluster
        self._instance = _cut(instance, INSTANCE_LIMIT)
        self._clock = clock
        self._series: OrderedDict[tuple[str, ...], _Series] = OrderedDict()

    async def post(self, resource: Json, transition: Transition) -> None:
        """Tell about a transition of this service."""
        now = self._clock()
        series = self._recall(resource, transition, now)
        event = series.event
        if series.count > 1:
            event = {**event, "series": {"count": series.count, "lastObservedTime": _micro(now)}}
        try:
            await self._cluster.apply(event)
        except ApiError as error:
            log.warning("event %s was not written: %s", transition.reason, error)

    def _recall(self, resource: Json, transition: Transition, now: float) -> _Series:
        key = (resource["metadata"]["uid"], transition.kind, transition.reason, _NUMBER.sub("#", transition.message))
        series = self._series.pop(key, None)
        if series is None or now - series.last > SERIES_WINDOW:
            series = _Series(self._event(resource, transition, now), 0, now)
        series.count, series.last = series.count + 1, now
        self._series[key] = series
        if len(self._series) > REMEMBERED:
            self._series.popitem(last=False)
        return series

    def _event(self, resource: Json, transition: Transition, now: float) -> Json:
        meta = resource["metadata"]
        regarding = {
            "apiVersion": resource["apiVersion"],
            "kind": resource["kind"],
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        }
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name']}.{time.time_ns():x}", "namespace": meta["namespace"]},
            "eventTime": _micro(now),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": transition.kind,
            "reason": transition.reason,
            "note": _cut(transition.message, NOTE_LIMIT),
            "regarding": regarding,
        }


def _cut(text: str, limit: int) -> str:
    """Return the beginning of a text that takes at most `limit` bytes."""
    return text.encode()[:limit].decode(errors="ignore")


def _micro(at: float) -> str:
    """Unix time as Kubernetes' MicroTime."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
