"""What measurements say in the status, and which pods have none although they should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.core.effect.saved import saved
from llmcache_operator.core.identity import identity
from llmcache_operator.core.readiness import ready_pods
from llmcache_operator.core.sharing import layout
from llmcache_operator.core.sidecar import cache_server_name
from llmcache_operator.core.sizing import sizing
from llmcache_operator.core.target import Component, Target
from llmcache_operator.core.values import ScrapeFailure

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json, Observed
    from llmcache_operator.core.window import Measurement

# One lost scrape is noise; three in a row are a pod that can't be measured.
PATIENCE_SCRAPES = 3


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many ready engines have a fresh sample, and who should have one but has not."""

    sampled: int
    failures: tuple[ScrapeFailure, ...]


def coverage(target: Target, observed: Observed, measurement: Measurement, now: float) -> Coverage:
    """Return who is measured. Pods that became ready a moment ago are not missed yet."""
    patience = PATIENCE_SCRAPES * target.settings.scrape_interval
    fresh = {uid for uid, samples in measurement.engines.items() if samples and samples[-1].at > now - patience}
    engines = ready_pods(observed, Component.ENGINE)
    missing = [
        pod["metadata"]["name"]
        for pod, since in engines
        if pod["metadata"]["uid"] not in fresh and now - since > patience
    ]
    known = {name for name, samples in measurement.caches.items() if samples[-1].at > now - patience}
    servers = ready_pods(observed, Component.CACHE_SERVER, Component.ENGINE)
    named = {cache_server_name(pod): since for pod, since in servers}
    missing += [name for name, since in named.items() if name and name not in known and now - since > patience]
    sampled = sum(pod["metadata"]["uid"] in fresh for pod, _ in engines)
    return Coverage(sampled, tuple(_failure(name, measurement, now) for name in sorted(missing)))


def cache_status(target: Target, ready: int, covered: Coverage, measurement: Measurement, now: float) -> Json:
    """Return `status.cache`; what can't be known is left out."""
    window = target.settings.window
    tokens = measurement.tokens(now, window)
    reused = [s.engine_hits + s.server_hits for s in measurement.latest(measurement.engines.keys())]
    cache: Json = {
        "identity": identity(target),
        "layout": layout(target.spec.cache),
        "capacity": _capacity(target),
        "window": f"{window}s" if window % 60 else f"{window // 60}m",
        "sampledEngines": f"{covered.sampled}/{ready}",
    }
    if tokens.total:
        hits, engine = (_percent(part, tokens.total) for part in (tokens.hits, tokens.engine_hits))
        # The rest, not rounded by itself: people add the tiers up.
        cache |= {"hitRatePercent": hits, "tiers": {"engine": engine, "server": hits - engine}}
    if reused:
        cache["tokensReused"] = sum(reused)
        cache["saved"] = saved(measurement, now - window)
    if ratios := [samples[-1].usage_ratio for samples in measurement.caches.values()]:
        # Of all servers, which are of equal size.
        cache["usedPercent"] = round(100 * min(1.0, sum(ratios) / len(ratios)))
    return cache


def _capacity(target: Target) -> Json:
    sizes = sizing(target.spec)
    return {"bytes": sizes.kv_bytes} | ({} if sizes.tokens is None else {"tokens": sizes.tokens})


def _percent(part: int, whole: int) -> int:
    return round(100 * part / whole)


def _failure(pod: str, measurement: Measurement, now: float) -> ScrapeFailure:
    return measurement.failures.get(pod, ScrapeFailure(pod, now, "no scrape has come back yet"))
