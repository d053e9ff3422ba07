"""What the cache saved: prompt tokens that no engine computed, and the time of engines that it would have taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.counts import EngineCounts
from llmcache_operator.core.effect.reload import costs
from llmcache_operator.core.growth import steps

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json
    from llmcache_operator.core.window import Measurement


def saved(measurement: Measurement, since: float) -> Json:
    """Return `status.cache.saved`; what can't be known is left out.

    Tokens are those of the lives of all engines that ran since then. Seconds are an estimate from below:

        seconds for a token = time in which an engine waited for first tokens / (computed + r x tokens from the server)
        saved = seconds for a token x (tokens from engines' own caches + (1 - r) x tokens from the server)

    where no engine counts more time than has passed, however many requests it works on at once, and r is what a token
    from the server costs against a computed one, as measured by `costs`: 1, so that it saves nothing, where unknown.
    After a self-test alone there is nothing to estimate from.
    """
    latest = measurement.latest(measurement.engines.keys())
    own, fetched = (sum(s.engine_hits for s in latest), sum(s.server_hits for s in latest))
    if not latest:
        return {}
    found: Json = {"promptTokens": own + fetched}
    ratio = _ratio(measurement, since)
    time = work = 0.0
    for samples in measurement.engines.values():
        for seconds, grown in steps(samples, since):
            counts = EngineCounts(*grown)
            time += min(counts.busy, seconds)
            work += counts.computed + ratio * counts.server_hits
    asked = any(counts.total for counts in measurement.by_engine(since).values())
    if asked and time and work:
        found["engineSeconds"] = max(0, round(time / work * (own + (1 - ratio) * fetched)))
    return found


def _ratio(measurement: Measurement, since: float) -> float:
    found = costs(measurement, since)
    if found is None or found.compute <= 0 or found.error > found.compute:
        return 1.0
    return max(0.0, found.reload / found.compute)
