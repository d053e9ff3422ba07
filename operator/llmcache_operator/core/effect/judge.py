"""CacheEffective: an ordered list of rules, and the patience before a new verdict is told.

Each rule is a function of the evidence that returns a message, or None where it does not hold. The first that holds is
the verdict: what can't work comes before what works badly, and that before what works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.core.conditions import Verdict
from llmcache_operator.core.effect import reach, slower, state, traffic
from llmcache_operator.core.effect.evidence import ENOUGH_REQUESTS, Evidence, gather, step
from llmcache_operator.core.effect.words import count, span

if TYPE_CHECKING:
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import Json, Observed
    from llmcache_operator.core.window import Measurement

Rule = Callable[[Evidence], str | None]


def not_sampled_yet(evidence: Evidence) -> str | None:
    """Tell if no engine that is ready has been measured."""
    if any(engine.sample for engine in evidence.engines):
        return None
    return "No engine that answers has been measured yet."


def wrong_kv(evidence: Evidence) -> str | None:
    """Tell if the self-test found that the cache changes answers."""
    found = evidence.sharing
    if found is None or found.reason is not Reason.WRONG_KV:
        return None
    return f"Answers are wrong where KV comes from the cache. {found.message}"


def idle(evidence: Evidence) -> str | None:
    """Tell if nobody asked anything within the window."""
    seen = evidence.window.engines
    if seen.requests or seen.total:
        return None
    return f"No request came in within the last {span(float(evidence.target.settings.window))}."


def too_few_requests(evidence: Evidence) -> str | None:
    """Tell if too few requests came in to judge by."""
    seen = evidence.window.engines.requests
    if seen >= ENOUGH_REQUESTS:
        return None
    return f"{count(seen)} requests came in so far; a verdict takes {ENOUGH_REQUESTS} within the window."


def nothing_yet(_: Evidence) -> str | None:
    """Tell what is left: nothing was shared yet, and it is too early to say that nothing can be."""
    return "No prompt has begun like an earlier one yet."


RULES: tuple[tuple[Reason, bool | None, Rule], ...] = (
    (Reason.NOT_SAMPLED_YET, None, not_sampled_yet),
    (Reason.WRONG_KV, False, wrong_kv),
    (Reason.SERVER_UNREACHABLE, False, reach.server_unreachable),
    (Reason.SERVER_UNREACHABLE, False, reach.engines_forgotten),
    (Reason.IDENTITY_MISMATCH, False, state.identity_mismatch),
    (Reason.ENGINES_NOT_REGISTERED, False, reach.some_forgotten),
    (Reason.ENGINES_NOT_REGISTERED, False, reach.engines_not_registered),
    (Reason.EVICTING, False, traffic.evicting),
    (Reason.EVICTING, False, traffic.no_room),
    (Reason.CACHE_EMPTIED, False, state.cache_emptied),
    (Reason.IDLE, None, idle),
    (Reason.TOO_FEW_REQUESTS, None, too_few_requests),
    (Reason.COUNTERS_STUCK, False, traffic.counters_stuck),
    (Reason.TOO_SHORT_PROMPTS, False, traffic.too_short_prompts),
    (Reason.ROUTER_SCATTERS, False, traffic.router_scatters),
    (Reason.SLOWER_THAN_PREFILL, False, slower.slower_than_prefill),
    (Reason.EFFECTIVE, True, traffic.effective),
    (Reason.FITS_IN_ENGINE, True, traffic.fits_in_engine),
    (Reason.NO_REUSE, False, traffic.no_reuse),
    (Reason.TOO_FEW_REQUESTS, None, nothing_yet),
)


WEAK = (Reason.NOT_SAMPLED_YET, Reason.IDLE, Reason.TOO_FEW_REQUESTS)
"""Verdicts for want of evidence. After a restart of the operator its memory is too short for them to end others."""

FAR_SIGHTED: tuple[Rule, ...] = (slower.slower_than_prefill, reach.engines_forgotten, reach.some_forgotten)
"""Rules on several steps or pings: a second look would only see the same again."""

_REASONS = {reason.value: reason for reason, *_ in RULES}


def verdict(evidence: Evidence) -> tuple[Verdict, Rule]:
    """Return what the first rule that holds says, and that rule."""
    for reason, status, rule in RULES:
        if message := rule(evidence):
            return Verdict(ConditionType.CACHE_EFFECTIVE, status=status, reason=reason, message=message), rule
    raise AssertionError("the last rule always holds")


def judge(  # noqa: PLR0913 - all that is known
    target: Target,
    observed: Observed,
    measurement: Measurement,
    now: float,
    *,
    settled: bool,
    sharing: Verdict | None = None,
) -> Verdict:
    """Return the condition CacheEffective.

    The reason that was told stays, with its message, until it has held neither now nor one step earlier, or until a
    far-sighted one holds: one look that goes wrong changes nothing, and two that disagree keep nothing alive.
    """
    told = _told(observed.resource)
    before = _REASONS.get(told["reason"]) if told else None

    def look(at: float) -> tuple[Verdict, Rule]:
        return verdict(gather(target, observed, measurement, at, told=before, settled=settled, sharing=sharing))

    current, rule = look(now)
    if told is None or before is None or before is current.reason:
        return current
    forgotten = current.reason in WEAK and before not in WEAK and not _remembers(measurement, target, now)
    if not forgotten and (rule in FAR_SIGHTED or look(now - step(target))[0].reason is not before):
        return current
    status = {"True": True, "False": False}.get(told["status"])
    return Verdict(ConditionType.CACHE_EFFECTIVE, status=status, reason=before, message=told["message"])


def _remembers(measurement: Measurement, target: Target, now: float) -> bool:
    """Whether engines have been measured for a whole window, less one look."""
    first = [samples[0].at for samples in measurement.engines.values()]
    return min(first, default=now) <= now - target.settings.window + step(target)


def _told(resource: Json) -> Json | None:
    conditions = resource.get("status", {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == ConditionType.CACHE_EFFECTIVE.value), None)
