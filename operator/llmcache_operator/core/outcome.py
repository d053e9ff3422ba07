"""What a reconcile ends with: the status of the service, Events for what changed, and when to look again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmcache_operator.api.cache import Topology
from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.core.children import router
from llmcache_operator.core.children.inference_pool import whereabouts
from llmcache_operator.core.conditions import Parts, Verdict, as_conditions, verdicts
from llmcache_operator.core.diagnosis import diagnose
from llmcache_operator.core.effect.judge import judge
from llmcache_operator.core.l2 import l2_verdict
from llmcache_operator.core.measured import Coverage, cache_status, coverage
from llmcache_operator.core.readiness import ready_pods_at
from llmcache_operator.core.reconcile import Decision, child
from llmcache_operator.core.rollout import Rollout, rollout
from llmcache_operator.core.selftest import Standing, standing
from llmcache_operator.core.sharing import apart
from llmcache_operator.core.sidecar import servers_ready
from llmcache_operator.core.target import Component, Target
from llmcache_operator.core.values import Json, Observed, Outcome, Rejection, Settings, Transition
from llmcache_operator.core.versions import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmcache_operator.core.window import Measurement

# Grace periods of the diagnosis run out without anybody telling: look again while something is under way.
PROGRESS_SECONDS = 5.0
_TOLD = {
    ConditionType.READY,
    ConditionType.CACHE_READY,
    ConditionType.L2_READY,
    ConditionType.STALLED,
    ConditionType.VERSIONS_COMPATIBLE,
    ConditionType.CACHE_SHARING_VERIFIED,
    ConditionType.CACHE_EFFECTIVE,
}


def outcome(
    decision: Decision, observed: Observed, rejections: Sequence[Rejection], measurement: Measurement, now: float
) -> Outcome:
    """Return the status to show. `observed` holds the children as the last writes left them."""
    previous: Json = observed.resource.get("status", {})
    generation: int = observed.resource["metadata"]["generation"]
    tested: Standing | None = None
    if decision.target is None:
        found: Sequence[Verdict] = _invalid(decision.error or "")
        status: Json = {key: previous[key] for key in ("url", "engines", "cache") if key in previous}
    else:
        covered = coverage(decision.target, observed, measurement, now)
        parts = _parts(decision.target, observed, rejections, covered, now)
        store = rollout(child(observed.children, "StatefulSet", decision.target.name(Component.VALKEY)), 1)
        parts = replace(parts, l2=l2_verdict(decision.target, parts, store, measurement, now))
        engines = parts.rollouts[Component.ENGINE]
        tested = standing(decision.target, observed, _settled(parts), measurement, now)
        judged = _judged(decision.target, observed, parts, measurement, tested.verdict, now)
        found = [*verdicts(parts), tested.verdict, *judged, *_paused(decision)]
        url = router.url(decision.target)
        status = ({"url": url} if url else {}) | {
            "engines": _engines(decision.target, engines),
            "cache": cache_status(decision.target, engines.ready, covered, measurement, now) | tested.status,
        }
    conditions = as_conditions(found, previous.get("conditions", []), generation, now)
    status = {"observedGeneration": generation, "conditions": conditions} | status
    moving = any(verdict.type is ConditionType.RECONCILING for verdict in found)
    due = tested.due if tested else None
    return Outcome(status, _transitions(previous, status), PROGRESS_SECONDS if moving else None, due)


def _judged(  # noqa: PLR0913, PLR0917 - all that is known
    target: Target, observed: Observed, parts: Parts, measurement: Measurement, sharing: Verdict, now: float
) -> Iterator[Verdict]:
    settled = all(parts.rollouts[component].settled for component in (Component.ENGINE, Component.CACHE_SERVER))
    ready = [pod["metadata"]["uid"] for pod, _ in ready_pods_at(observed, Component.ENGINE, now)]
    yield versions(measurement, ready, settled=settled)
    yield judge(target, observed, measurement, now, settled=settled, sharing=sharing)


def _invalid(error: str) -> list[Verdict]:
    text = f"The spec can't be used: {error}. Nothing was changed; correct it and apply again."
    unknown = (ConditionType.ENGINES_READY, ConditionType.CACHE_READY, ConditionType.ROUTER_READY)
    return [
        Verdict(ConditionType.READY, status=False, reason=Reason.INVALID_SPEC, message=text),
        *(Verdict(kind, status=None, reason=Reason.INVALID_SPEC, message=text) for kind in unknown),
        Verdict(ConditionType.STALLED, status=True, reason=Reason.INVALID_SPEC, message=text),
    ]


def _paused(decision: Decision) -> list[Verdict]:
    if not decision.paused:
        return []
    text = "Children are left as they are until the annotation llmcache.dev/paused is removed"
    return [Verdict(ConditionType.PAUSED, status=True, reason=Reason.PAUSED, message=text)]


def _parts(target: Target, observed: Observed, rejections: Sequence[Rejection], covered: Coverage, now: float) -> Parts:
    rollouts = {
        component: rollout(child(observed.children, kind, target.name(component)), _desired(target, component))
        for component, kind in _kinds(target).items()
    }
    if Component.CACHE_SERVER not in target.components:
        engines = rollouts[Component.ENGINE].desired
        rollouts[Component.CACHE_SERVER] = Rollout(engines, servers_ready(observed.pods), settled=True)
    return Parts(
        rollouts=rollouts,
        apart=apart(target.spec.cache),
        gateway=whereabouts(target),
        findings=diagnose(observed, rejections, now),
        sampled=covered.sampled,
        failures=covered.failures,
    )


def _kinds(target: Target) -> dict[Component, str]:
    servers = "DaemonSet" if target.spec.cache.topology is Topology.NODE_LOCAL else "StatefulSet"
    return {Component.ENGINE: "Deployment", Component.CACHE_SERVER: servers, Component.ROUTER: "Deployment"}


def _desired(target: Target, component: Component) -> int | None:
    if component is Component.ENGINE:
        return target.spec.engine.replicas
    return target.spec.router.replicas if component is Component.ROUTER else 1


def _settled(parts: Parts) -> int | None:
    """Return how many engines there are once all of them and the LMCache server are as wanted, or None before."""
    engines, server = parts.rollouts[Component.ENGINE], parts.rollouts[Component.CACHE_SERVER]
    return engines.desired if engines.complete and server.complete else None


def _engines(target: Target, now: Rollout) -> Json:
    selector = ",".join(f"{key}={value}" for key, value in target.selector(Component.ENGINE).items())
    return {
        "desired": now.desired,
        "ready": now.ready,
        "summary": f"{now.ready}/{now.desired}",
        "selector": selector,
    }


def _transitions(previous: Json, status: Json) -> tuple[Transition, ...]:
    """Return an Event for each condition that people wait for and that says something new, and for a new identity.

    That something can't be known now (Unknown) is no news.
    """
    before = {c["type"]: (c["status"], c["reason"]) for c in previous.get("conditions", [])}
    after = {c["type"]: c for c in status["conditions"]}
    found = [
        Transition(_event_kind(condition), condition["reason"], condition["message"])
        for kind, condition in after.items()
        if kind in _TOLD
        and condition["status"] != "Unknown"
        and before.get(kind) != (condition["status"], condition["reason"])
    ]
    if ConditionType.STALLED.value in before and ConditionType.STALLED.value not in after:
        found.append(Transition("Normal", "Recovered", f"No longer stalled: {before['Stalled'][1]} is over"))
    old, new = previous.get("cache", {}).get("identity"), status.get("cache", {}).get("identity")
    if old and new and old != new:
        text = f"The cache identity changes from {old} to {new}: engines start with a cold cache"
        found.append(Transition("Normal", "CacheIdentityChanged", text))
    found += _moved(previous.get("cache", {}).get("layout"), status.get("cache", {}).get("layout"))
    return tuple(dict.fromkeys(found))


def _moved(before: str | None, after: str | None) -> list[Transition]:
    """Tell what becomes of the cache when it is laid out anew."""
    if not before or not after or before == after:
        return []
    text = (
        f"The cache is laid out anew, from {before} to {after}. Engines are replaced one by one. What LMCache servers "
        "hold in memory goes with them; what is in an L2 that stays is found again. What is no longer wanted is "
        "deleted once no pod uses it"
    )
    return [Transition("Normal", "CacheLayoutChanged", text)]


def _event_kind(condition: Json) -> str:
    if condition["type"] == ConditionType.STALLED.value:
        return "Warning"
    return "Normal" if condition["status"] == "True" or condition["reason"] in _CALM else "Warning"


_CALM = (Reason.PROGRESSING.value, Reason.WAITING_FOR_CACHE_SERVER.value)


def should_write(previous: Json, new: Json, written_at: float, now: float, settings: Settings) -> bool:
    """Whether a status is worth a write: at once when more than measurements changed, else once a while."""
    if previous == new:
        return False
    if _without_measurements(previous) != _without_measurements(new):
        return True
    return now - written_at >= settings.measure_write_interval


def _without_measurements(status: Json) -> Json:
    """Return a status less what changes all the time: measured values, and the counts in messages about them."""
    told = status.get("cache", {})
    cache = {name: told.get(name) for name in ("identity", "layout", "capacity")}
    conditions = [
        {key: value for key, value in condition.items() if key != "message"}
        for condition in status.get("conditions", [])
    ]
    return status | {"cache": cache, "conditions": conditions}
