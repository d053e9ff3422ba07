"""The condition CacheSharingVerified: what it says now, and whether a self-test is due.

A result is about a fleet: the pods that took part, each as it runs. It is kept in the status, so that an operator that
restarts goes on where the one before stopped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.api.fields import Switch
from llmcache_operator.core.conditions import Verdict
from llmcache_operator.core.identity import LENGTH, identity
from llmcache_operator.core.moment import seconds
from llmcache_operator.core.readiness import ready_pods
from llmcache_operator.core.sharing import shares
from llmcache_operator.core.sidecar import cache_server_name
from llmcache_operator.core.target import Component, Target
from llmcache_operator.core.values import Json, Observed, SelfTest, SelfTestResult

if TYPE_CHECKING:
    from llmcache_operator.core.window import Measurement

RETRY_SECONDS, RETRY_MOST = 15.0, 30.0
"""After a test that did not verify: longer each time, and so short that with the scrape that starts it and the test
itself a cure is seen within a minute."""

DANGER_MOST = 3600.0
"""After tests that failed on pods which then were others: they may be what ends engines, so ever longer."""

INCOMPLETE_SECONDS = 300.0
"""After a test that left busy engines out."""

SUSPICION_WINDOW, SUSPICION_REST = 45.0, 120.0
"""Seconds without a token from the server that make a fleet suspect, and seconds after a test in which none is."""

MAX_NUM_SEQS = 128
"""The smallest default of vLLM 0.32 for `--max-num-seqs` (vllm/engine/arg_utils.py): half of it is busy."""

_STATUS = {Reason.VERIFIED: True, Reason.NOTHING_SHARED: False, Reason.WRONG_KV: False, Reason.PROBE_FAILED: None}


@dataclass(frozen=True, slots=True)
class Standing:
    """What to say: the condition and its part of `status.cache`; and what to do: a test, if one is due."""

    verdict: Verdict
    status: Json
    due: SelfTest | None = None


def standing(target: Target, observed: Observed, wanted: int | None, measurement: Measurement, now: float) -> Standing:
    """Return what can be said now. `wanted` is the number of engines, or None while a rollout is under way."""
    if target.spec.cache.self_test is Switch.DISABLED:
        return _untested(Reason.DISABLED, "Not tried: spec.cache.selfTest is Disabled")
    if not shares(target.spec.cache):
        return _untested(Reason.DISABLED, "Not tried: engines don't share all that they cache; see CacheReady")
    engines = tuple(pod for pod, _ in ready_pods(observed, Component.ENGINE))
    if wanted is None or len(engines) < max(1, wanted):
        return _untested(Reason.PENDING, "Tried once all engines and the LMCache server are ready")
    if len(engines) == 1:
        return _untested(Reason.ONE_ENGINE, "There is one engine, and sharing takes two")
    if _tail(target) < 1:
        text = "engine.maxModelLen has no room for a prompt of one chunk, a token more, and an answer: raise it by 1"
        return _untested(Reason.PROBE_FAILED, text)
    return _of_fleet(target, observed, engines, measurement, now)


def _untested(reason: Reason, text: str) -> Standing:
    return Standing(Verdict(ConditionType.CACHE_SHARING_VERIFIED, status=None, reason=reason, message=text), {})


def _of_fleet(
    target: Target, observed: Observed, engines: tuple[Json, ...], measurement: Measurement, now: float
) -> Standing:
    ready = ready_pods(observed, Component.CACHE_SERVER, Component.ENGINE)
    servers = tuple(pod for pod, _ in ready if cache_server_name(pod))
    fleet = _fleet(target, (*engines, *servers))
    latest = measurement.self_test or recalled(observed.resource)
    last = latest if latest is not None and latest.fleet == fleet else None
    free = _free(target, engines, measurement)
    test = SelfTest(
        key=target.key,
        uid=target.uid,
        model=target.served_name,
        fleet=fleet,
        engines=free,
        servers=servers,
        chunk=target.spec.cache.chunk_size,
        tail=_tail(target),
        busy=_busy(target),
        left_out=len(engines) - len(free),
        failures=latest.failures if latest is not None and (last or _is_dangerous(latest)) else 0,
        last=last,
    )
    is_due = _is_due(last, target, measurement, now) if last else _may_begin(latest, now)
    due = test if is_due and len(free) > 1 else None
    if last is not None and last.reason in _STATUS:
        verdict = Verdict(ConditionType.CACHE_SHARING_VERIFIED, _STATUS[last.reason], last.reason, last.message)
        mark = {"at": _since(observed.resource, last), "fleet": fleet}
        return Standing(verdict, {"selfTest": mark}, due)
    return replace(_not_yet(test, latest, is_due=is_due), due=due)


def _not_yet(test: SelfTest, latest: SelfTestResult | None, *, is_due: bool) -> Standing:
    """Say why a fleet has no result. `latest` is of this fleet, or of another one."""
    if latest is not None and not is_due and _is_dangerous(latest):
        text = (
            f"Tried again later, because with other pods it failed {latest.failures} times in a row: {latest.message}"
        )
        return _untested(Reason.PENDING, text)
    if len(test.engines) < 2 or test.last is not None:
        return _untested(Reason.SATURATED, "Not tried yet: requests wait on the engines")
    return _untested(Reason.PENDING, f"{len(test.engines) + test.left_out} engines are being tried")


def _may_begin(latest: SelfTestResult | None, now: float) -> bool:
    """Whether a fleet that was never tested may be, after what the latest test of another one did."""
    if latest is None or not _is_dangerous(latest):
        return True
    return now - latest.at >= min(RETRY_SECONDS * 2.0 ** (min(latest.failures, 16) - 1), DANGER_MOST)


def _is_dangerous(latest: SelfTestResult) -> bool:
    return latest.reason is Reason.PROBE_FAILED


def _is_due(last: SelfTestResult, target: Target, measurement: Measurement, now: float) -> bool:
    passed = now - last.at
    if last.reason is not Reason.VERIFIED:
        return passed >= min(RETRY_SECONDS * last.failures, RETRY_MOST)
    if not last.complete and passed >= INCOMPLETE_SECONDS:
        return True
    # Not all services of an operator at once: their fleets differ.
    spread = 0.9 + int(last.fleet, 16) % 1000 / 5000
    if passed >= target.settings.self_test_interval * spread:
        return True
    return passed >= SUSPICION_REST and _dried_up(target, measurement, now)


def _dried_up(target: Target, measurement: Measurement, now: float) -> bool:
    """Whether engines that took tokens from the server take none now, with prompts that could."""
    recent = measurement.tokens(now, SUSPICION_WINDOW)
    whole = measurement.tokens(now, target.settings.window)
    chunk = target.spec.cache.chunk_size
    return whole.server_hits >= chunk and recent.server_hits == 0 and recent.total >= 4 * chunk


def recalled(resource: Json) -> SelfTestResult | None:
    """Return the result that the status holds, or None."""
    status = resource.get("status") or {}
    mark = (status.get("cache") or {}).get("selfTest") or {}
    kind = ConditionType.CACHE_SHARING_VERIFIED.value
    found: Json = next((one for one in status.get("conditions") or [] if one["type"] == kind), {})
    reason = next((reason for reason in _STATUS if reason.value == found.get("reason")), None)
    if reason is None or not mark.get("at") or not mark.get("fleet"):
        return None
    failures = 0 if reason is Reason.VERIFIED else 1
    return SelfTestResult(seconds(mark["at"]), mark["fleet"], reason, found["message"], failures)


def _since(resource: Json, last: SelfTestResult) -> str:
    """Return when the result was found: a failure that is found again is no news, and no reason to write."""
    before = recalled(resource)
    again = before is not None and (before.fleet, before.reason) == (last.fleet, last.reason)
    at = before.at if before and again and last.reason is not Reason.VERIFIED else last.at
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _fleet(target: Target, pods: tuple[Json, ...]) -> str:
    """Return a hash of the pods as they run now: another pod, a restarted container or another identity changes it."""
    runs = sorted({(str(pod["metadata"]["uid"]), _restarts(pod)) for pod in pods})
    return hashlib.sha256(json.dumps([identity(target), runs]).encode()).hexdigest()[:LENGTH]


def _restarts(pod: Json) -> int:
    status = pod.get("status", {})
    containers = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    return sum(int(container.get("restartCount", 0)) for container in containers)


def _free(target: Target, engines: tuple[Json, ...], measurement: Measurement) -> tuple[Json, ...]:
    """Return the engines on which no request waits and not many run, as far as is known."""
    uids = {pod["metadata"]["uid"] for pod in engines}
    samples = measurement.latest(uids)
    busy = {sample.pod_uid for sample in samples if sample.waiting or sample.running >= _busy(target)}
    return tuple(pod for pod in engines if pod["metadata"]["uid"] not in busy)


def _busy(target: Target) -> int:
    """Return how many running requests make an engine busy: half of what it takes at once."""
    text = "=".join(target.spec.engine.args)
    given = text.partition("--max-num-seqs=")[2].partition("=")[0]
    return max(1, (int(given) if given.isdigit() else MAX_NUM_SEQS) // 2)


def _tail(target: Target) -> int:
    """Return how many tokens of a prompt follow its chunk: a block and one more, or what `maxModelLen` leaves."""
    engine = target.spec.engine
    wanted = engine.block_size + 1
    if engine.max_model_len is None:
        return wanted
    return min(wanted, engine.max_model_len - target.spec.cache.chunk_size - 1)
