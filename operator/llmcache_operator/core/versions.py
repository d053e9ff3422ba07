"""The condition VersionsCompatible: what runs, read from the pods, against what is known of pairs of versions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmcache_operator.api.compatibility import PAIRS, Pair
from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.core.conditions import Verdict
from llmcache_operator.core.effect.words import by_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmcache_operator.core.window import Measurement

# What comes after the numbers says how it was built (0.32.0+cpu, 0.5.6-g3e11e108).
_RELEASE = re.compile(r"\d+(?:\.\d+)*")

Release = tuple[int, ...]


def versions(measurement: Measurement, ready: Iterable[str], *, settled: bool) -> Verdict:
    """Return the condition. `ready` are the UIDs of engines that answer; without a rollout all should run the same."""
    engines = {sample.pod: sample.version for sample in measurement.latest(set(ready)) if sample.version}
    servers = {pod: samples[-1].version for pod, samples in measurement.caches.items()}
    caches = {pod: version for pod, version in servers.items() if version}
    for program, found in (("vLLM", engines), ("LMCache", caches)):
        if len(set(found.values())) > 1 and settled:
            text = (
                f"Pods run different versions of {program}: {by_value(found)}. Name images by digest, and restart the "
                "pods that are behind."
            )
            return Verdict(ConditionType.VERSIONS_COMPATIBLE, status=False, reason=Reason.VERSIONS_DIFFER, message=text)
    if not engines or not caches:
        lacking = "the engines" if not engines else "the LMCache server"
        text = f"The version of {lacking} is not known yet."
        return Verdict(ConditionType.VERSIONS_COMPATIBLE, status=None, reason=Reason.VERSION_UNKNOWN, message=text)
    # While a rollout is under way there may be several; the newest is what there will be.
    return _pair(max(engines.values(), key=release), max(caches.values(), key=release))


def _pair(vllm: str, lmcache: str) -> Verdict:
    both = f"vLLM {vllm} with LMCache {lmcache}"
    rows = [pair for pair in PAIRS if _is_about(pair, release(vllm), release(lmcache))]
    for pair in sorted(rows, key=lambda pair: pair.good):
        reason = Reason.COMPATIBLE if pair.good else Reason.KNOWN_BAD
        advice = "" if pair.good else " Set spec.engine.image and spec.cache.image to a pair that is known good."
        text = f"{both}: {pair.what}{advice} Source: {pair.source}, {pair.date}."
        return Verdict(ConditionType.VERSIONS_COMPATIBLE, status=pair.good, reason=reason, message=text)
    text = f"{both}: nobody is known to have tried. CacheSharingVerified and CacheEffective say whether it works here."
    return Verdict(ConditionType.VERSIONS_COMPATIBLE, status=None, reason=Reason.UNTESTED_PAIR, message=text)


def _is_about(pair: Pair, vllm: Release, lmcache: Release) -> bool:
    return _within(vllm, pair.vllm_from, pair.vllm_below) and _within(lmcache, pair.lmcache_from, pair.lmcache_below)


def _within(version: Release, lowest: str, below: str | None) -> bool:
    return release(lowest) <= version and (below is None or version < release(below))


def release(version: str) -> Release:
    """Return the numbers that a version begins with, without zeros at the end; none sorts before all others."""
    found = _RELEASE.match(version.removeprefix("v"))
    numbers = [int(number) for number in found.group().split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
