"""The conditions of a service, each from a snapshot of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.core.target import Component

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmcache_operator.core.rollout import Rollout
    from llmcache_operator.core.values import Finding, Json, ScrapeFailure


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition says, before it is given a time. `status` is True, False or None for Unknown."""

    type: ConditionType
    status: bool | None
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a service as they are now. `sampled` counts engines with a fresh measurement.

    `apart` says what engines don't find of what others computed, where there is such, `l2` how the tier behind the
    LMCache servers is, where it tells. `gateway` is what to tell of the way from a gateway to the engines, where there
    is one.
    """

    rollouts: Mapping[Component, Rollout]
    findings: tuple[Finding, ...]
    sampled: int
    failures: tuple[ScrapeFailure, ...]
    apart: str | None = None
    l2: Verdict | None = None
    gateway: str | None = None


_PART = {
    Component.ENGINE: (ConditionType.ENGINES_READY, Reason.ENGINES_NOT_READY, "engines"),
    Component.CACHE_SERVER: (ConditionType.CACHE_READY, Reason.CACHE_SERVER_NOT_READY, "LMCache servers"),
    Component.ROUTER: (ConditionType.ROUTER_READY, Reason.ROUTER_NOT_READY, "routers"),
}


def verdicts(parts: Parts) -> tuple[Verdict, ...]:
    """Return all conditions that are there now; Reconciling and Stalled only while they hold."""
    by_part = {component: _part(component, parts) for component in _PART}
    ready = _ready(parts, by_part)
    return (
        ready,
        *by_part.values(),
        *([parts.l2] if parts.l2 else []),
        _metrics(parts),
        *_stalled(parts),
        *_reconciling(parts, ready),
    )


def _part(component: Component, parts: Parts) -> Verdict:
    kind, not_ready, noun = _PART[component]
    now = parts.rollouts[component]
    count = f"{now.ready} of {now.desired} {noun} ready"
    if now.complete:
        reason = Reason.AVAILABLE if now.desired else Reason.SCALED_TO_ZERO
        if component is Component.CACHE_SERVER and parts.apart:
            reason, count = Reason.NOT_SHARED, f"{count}. {parts.apart}"
        if component is Component.ROUTER and parts.gateway:
            count = f"{count}. {parts.gateway}"
        return Verdict(kind, status=True, reason=reason, message=count)
    for finding in parts.findings:
        if finding.component == component.value:
            return Verdict(kind, status=False, reason=finding.reason, message=f"{count}. {finding.message}")
    if component is Component.ENGINE and not parts.rollouts[Component.CACHE_SERVER].ready:
        text = f"{count}: they start once the LMCache server answers"
        return Verdict(kind, status=False, reason=Reason.WAITING_FOR_CACHE_SERVER, message=text)
    if not now.settled:
        return Verdict(kind, status=False, reason=Reason.PROGRESSING, message=f"{count}: a rollout is under way")
    return Verdict(kind, status=False, reason=not_ready, message=count)


def _ready(parts: Parts, by_part: Mapping[Component, Verdict]) -> Verdict:
    """Sum up: requests are served as specified. A service without its cache still serves, slower, and says so.

    Where the API server refused a child, what runs is not what was specified, well as it may run.
    """
    broken = [by_part[part] for part in (Component.ENGINE, Component.ROUTER) if not by_part[part].status]
    unapplied = [finding for finding in parts.findings if finding.component is None or finding.rejected]
    if broken or unapplied:
        # The cause comes before its effects: engines that wait for a crashing cache server are not the news.
        cause = (unapplied or parts.findings or broken)[0]
        return Verdict(ConditionType.READY, status=False, reason=cause.reason, message=cause.message)
    cache = by_part[Component.CACHE_SERVER]
    if not cache.status:
        text = f"Engines serve but share nothing: {cache.message}"
        return Verdict(ConditionType.READY, status=True, reason=Reason.SERVING_WITHOUT_CACHE, message=text)
    engines = by_part[Component.ENGINE]
    text = f"{engines.message}, {by_part[Component.ROUTER].message}"
    return Verdict(ConditionType.READY, status=True, reason=engines.reason, message=text)


def _metrics(parts: Parts) -> Verdict:
    ready = parts.rollouts[Component.ENGINE].ready
    kind = ConditionType.METRICS_AVAILABLE
    if parts.failures:
        first = parts.failures[0]
        text = f"{parts.sampled} of {ready} engines measured. {first.pod}: {first.why}"
        return Verdict(kind, status=False, reason=Reason.SCRAPE_FAILED, message=text)
    if not ready or parts.sampled < ready:
        text = f"{parts.sampled} of {ready} engines measured so far"
        return Verdict(kind, status=None, reason=Reason.NOT_SAMPLED_YET, message=text)
    return Verdict(kind, status=True, reason=Reason.ALL_SAMPLED, message=f"{ready} of {ready} engines measured")


def _stalled(parts: Parts) -> Iterable[Verdict]:
    if parts.findings:
        first, *others = parts.findings
        text = " Also: ".join(finding.message.rstrip(".") + "." for finding in (first, *others[:3]))
        yield Verdict(ConditionType.STALLED, status=True, reason=first.reason, message=text)


def _reconciling(parts: Parts, ready: Verdict) -> Iterable[Verdict]:
    moving = [c for c in _PART if not parts.rollouts[c].complete]
    if moving and not parts.findings:
        names = ", ".join(_PART[component][2] for component in moving)
        text = ready.message if not ready.status else f"Bringing up: {names}"
        yield Verdict(ConditionType.RECONCILING, status=True, reason=Reason.PROGRESSING, message=text)


def as_conditions(found: Iterable[Verdict], previous: Iterable[Json], generation: int, now: float) -> list[Json]:
    """Return verdicts as metav1.Condition objects; the time moves only when `status` changes."""
    before = {condition["type"]: condition for condition in previous}
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = []
    for verdict in found:
        status = {True: "True", False: "False", None: "Unknown"}[verdict.status]
        old = before.get(verdict.type.value, {})
        conditions.append(
            {
                "type": verdict.type.value,
                "status": status,
                "reason": verdict.reason.value,
                "message": verdict.message[:32768],
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == status else stamp,
            }
        )
    return conditions
