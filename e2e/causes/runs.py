"""Runs that are no cause: a healthy service under load, and a hit rate while engines come and go."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from e2e.causes.cause import World
from e2e.kube import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from e2e.causes.traffic import Usage
    from e2e.causes.watch import Seen
    from e2e.kube import Json

OPERATOR = "system:serviceaccount:llmcache-system:llmcache-operator"
WELL = {
    "Ready": {"Available"},
    "CacheEffective": {"Effective", "FitsInEngine"},
    "VersionsCompatible": {"Compatible"},
    "CacheSharingVerified": {"Verified", "Saturated"},
    "MetricsAvailable": {"AllSampled"},
}
MINUTE = 60.0
PATIENCE_SECONDS = 300.0

W = TypeVar("W", bound=World)


@dataclass(frozen=True)
class Healthy:
    """A run without a cause. `alarms` says which condition showed what, `closest` the least seconds between writes."""

    engines: str
    seconds: float
    requests: int
    alarms: tuple[str, ...]
    writes: int
    closest: float | None
    idle_seconds: float
    idle_writes: int


@dataclass(frozen=True)
class HitRate:
    """The hit rate that the resource showed, against the one that the answers' own usage adds up to, in percent."""

    engines: str
    events: str
    requests: int
    shown: float
    counted: float


def healthy(
    world: W, audit: Callable[[], Sequence[Json]], *, engines: str, seconds: float, window: float, idle_seconds: float
) -> Healthy:
    """Leave a service under load alone, then without load; `audit` gives the API server's log of writes.

    The run begins once all conditions say that all is well. With `idle_seconds` of 0 the idle part is left out.
    """
    world.traffic.idle = False
    wait_until("all conditions say that all is well", lambda: _well(world), seconds=PATIENCE_SECONDS, every=0.5)
    begun, since, requests = time.monotonic(), time.time(), len(world.usages)
    time.sleep(seconds)
    found = alarms(world.history(), begun)
    times = status_writes(audit(), world.key, since)
    requests = len(world.usages) - requests
    world.traffic.idle = True
    quiet: list[float] = []
    if idle_seconds:
        time.sleep(window + 2 * MINUTE)
        since = time.time()
        time.sleep(idle_seconds)
        quiet = status_writes(audit(), world.key, since)
    return Healthy(engines, seconds, requests, found, len(times), closest(times), idle_seconds, len(quiet))


def _well(world: World) -> bool:
    shown = world.conditions()
    return all(shown.get(kind, {}).get("reason") in reasons for kind, reasons in WELL.items())


def alarms(history: Sequence[Seen], since: float) -> tuple[str, ...]:
    """Return what conditions said from a moment of the monotonic clock on that a healthy service must not say."""
    begun = [seen for seen in history if seen.at <= since][-1:]
    found = []
    for seen in [*begun, *(seen for seen in history if seen.at > since)]:
        for kind, reasons in WELL.items():
            reason = seen.conditions().get(kind, {}).get("reason", "nothing")
            if reason not in reasons:
                found.append(f"{kind}: {reason}")
    return tuple(dict.fromkeys(found))


def status_writes(audit: Sequence[Json], key: tuple[str, str], since: float) -> list[float]:
    """Return when the operator wrote a resource, in seconds since the epoch, from a moment on."""
    times = [
        datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        for event in audit
        if event["user"]["username"] == OPERATOR
        and event["objectRef"]["resource"] == "llmcacheservices"
        and (event["objectRef"].get("namespace"), event["objectRef"].get("name")) == key
    ]
    return sorted(at for at in times if at >= since)


def closest(times: Sequence[float]) -> float | None:
    """Return the least seconds between two moments; None where there are fewer than two."""
    return min((later - earlier for earlier, later in pairwise(times)), default=None)


def hit_rate(
    world: W,
    events: Sequence[tuple[str, Callable[[W], None]]],
    *,
    engines: str,
    pause: float,
    window: float,
    settle: float,
) -> HitRate:
    """Let engines come and go under load; then compare what the resource shows with the usage of all answers.

    `pause` is the seconds of load before each event and after the last; `settle` those after the load that the operator
    needs to write what it measured.
    """
    world.usages.clear()
    world.traffic.idle = False
    for _, happen in events:
        time.sleep(pause)
        happen(world)
    time.sleep(pause)
    world.traffic.idle = True
    time.sleep(settle)
    shown = world.cache().get("hitRatePercent")
    if shown is None:
        raise LookupError("status.cache has no hitRatePercent after a run with traffic")
    counted = [usage for usage in world.usages if usage.at > time.time() - window]
    return HitRate(engines, ", ".join(name for name, _ in events), len(counted), shown, percent(counted))


def percent(usages: Sequence[Usage]) -> float:
    """Return the percentage of prompt tokens that came from a cache."""
    return round(100 * sum(usage.cached for usage in usages) / max(1, sum(usage.prompt for usage in usages)), 1)
