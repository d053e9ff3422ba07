"""What the kubelet says of pods that don't start. It says so in Events only, and no watch on Events is worth its load.

They are read when a reconcile meets such a pod, so a service at rest still costs no request.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from llmcache_operator.core.moment import seconds
from llmcache_operator.core.pod_start import worth_asking
from llmcache_operator.core.values import Complaint
from llmcache_operator.edge.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmcache_operator.core.values import Json
    from llmcache_operator.edge.cluster import Cluster

AGAIN = 15.0
"""Seconds until a pod that doesn't start is asked about again: its Events come without a change of the pod."""

log = logging.getLogger(__name__)


async def complaints(cluster: Cluster, pods: Iterable[Json], now: float) -> tuple[Complaint, ...]:
    """Return the warnings about pods that don't start, the latest first; none where they can't be read."""
    found: list[Complaint] = []
    for pod in worth_asking(pods, now):
        try:
            events = await cluster.warnings_about(pod)
        except ApiError as error:
            log.warning("Events of pod %s can't be read: %s", pod["metadata"]["name"], error)
            continue
        uid = pod["metadata"]["uid"]
        found += [Complaint(uid, event.get("note") or "", _last_seen(event)) for event in events]
    return tuple(sorted(found, key=lambda complaint: complaint.at, reverse=True))


def _last_seen(event: Json) -> float:
    """Return when an Event last happened: kubelets write the fields of the older API, which others leave out."""
    times = (
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
    )
    return next((seconds(time) for time in times if time), 0.0)
