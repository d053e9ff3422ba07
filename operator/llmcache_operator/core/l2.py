"""How the tiers behind the LMCache servers are: Valkey as the guards before it tell, others as LMCache counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.core.conditions import Verdict
from llmcache_operator.core.l2_stores import stores_verdict
from llmcache_operator.core.measured import PATIENCE_SCRAPES
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import L2Sample

if TYPE_CHECKING:
    from llmcache_operator.core.conditions import Parts
    from llmcache_operator.core.rollout import Rollout
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.window import Measurement

# The states of llmcache_runtime.l2guard, what they mean here, and what to do.
_TROUBLE = {
    "Unreachable": (Reason.L2_UNREACHABLE, "See whether it runs and whether a NetworkPolicy is in the way"),
    "AuthenticationFailed": (
        Reason.L2_AUTHENTICATION_FAILED,
        "Correct user name and Secret, then restart the pods that read it at their start",
    ),
    "Full": (Reason.L2_FULL, "Give it more memory, or let it evict: maxmemory-policy allkeys-lru"),
    "Slow": (Reason.L2_SLOW, "Bring it nearer, or give it more CPU"),
    "Refusing": (Reason.L2_REFUSING, "Its own words say why"),
}

_REACHED = {reason for reason, _ in _TROUBLE.values()} - {Reason.L2_UNREACHABLE}


def l2_sample(at: float, text: str) -> L2Sample:
    """Return what a guard answers at /state. Raises ValueError when it can't be read."""
    try:
        found = json.loads(text)
        return L2Sample(at, str(found["state"]), str(found["detail"])[:300])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"/state can't be read: {error!r}") from error


def l2_verdict(target: Target, parts: Parts, store: Rollout, measurement: Measurement, now: float) -> Verdict | None:
    """Return how the L2 of a service is, or None where it has none: of its tiers the first in trouble, or the first.

    `store` is how far the service's own Valkey has come: while it comes up, that is the news, unless a guard has
    reached it and tells why it is of no use, which may keep it from being ready. Else the worst that a guard tells.
    """
    l2 = target.spec.cache.l2
    if l2 is None:
        return None
    others = stores_verdict(target, l2, measurement, now)
    if l2.valkey is None:
        return others
    valkey = _valkey(target, parts, store, measurement, now)
    return others if others and others.status is False and valkey.status is not False else valkey


def _valkey(target: Target, parts: Parts, store: Rollout, measurement: Measurement, now: float) -> Verdict:
    told = _told(target, measurement, now)
    if target.managed_valkey and not store.complete and told.reason not in _REACHED:
        return _coming(parts)
    return told


def _coming(parts: Parts) -> Verdict:
    causes = [finding for finding in parts.findings if finding.component == Component.VALKEY.value]
    reason, text = Reason.PROGRESSING, "Valkey is not ready yet. Engines serve on without it"
    if causes:
        reason, text = causes[0].reason, causes[0].message
    return Verdict(ConditionType.L2_READY, status=False, reason=reason, message=text)


def _told(target: Target, measurement: Measurement, now: float) -> Verdict:
    patience = PATIENCE_SCRAPES * target.settings.scrape_interval
    fresh = {name: sample for name, sample in sorted(measurement.l2.items()) if sample.at > now - patience}
    kind = ConditionType.L2_READY
    for state, (reason, advice) in _TROUBLE.items():
        told = [(name, sample) for name, sample in fresh.items() if sample.state == state]
        if told:
            name, sample = told[0]
            text = (
                f"{len(told)} of {len(fresh)} LMCache servers can't use Valkey. {name}: {sample.detail}. {advice}. "
                "Engines serve on without it"
            )
            return Verdict(kind, status=False, reason=reason, message=text)
    well = sum(sample.state == "Ok" for sample in fresh.values())
    if not fresh:
        text = "No LMCache server tells how Valkey is"
        return Verdict(kind, status=None, reason=Reason.NOT_SAMPLED_YET, message=text)
    if well < len(fresh):
        text = f"{well} of {len(fresh)} LMCache servers have found Valkey so far"
        return Verdict(kind, status=None, reason=Reason.NOT_SAMPLED_YET, message=text)
    return Verdict(kind, status=True, reason=Reason.AVAILABLE, message=f"{well} of {well} LMCache servers use Valkey")
