"""What a verdict is judged by: the pods that are there and what they counted, as known at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.core.counts import CacheCounts, EngineCounts, RouterCounts
from llmcache_operator.core.growth import grown, recent
from llmcache_operator.core.moment import seconds
from llmcache_operator.core.target import COMPONENT_LABEL, Component

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmcache_operator.api.conditions import Reason
    from llmcache_operator.core.conditions import Verdict
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import CacheSample, EngineSample, Json, Observed
    from llmcache_operator.core.window import Measurement

ENOUGH_REQUESTS = 6
"""Requests in a stretch of time before anything is concluded from it."""

LEAST_STEP = 10.0
"""Seconds: verdicts take at least this long from one look to the next, however often pods are scraped."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was counted over the last `seconds`, in all and by engine (pod UID)."""

    seconds: float
    engines: EngineCounts
    caches: CacheCounts
    routers: RouterCounts
    by_engine: Mapping[str, EngineCounts]

    @property
    def server_share(self) -> float:
        """Part of the prompt tokens that came from the LMCache server, 0 to 1."""
        return part(self.engines.server_hits, self.engines.total)

    @property
    def engine_share(self) -> float:
        """Part of the prompt tokens that came from the engines' own caches."""
        return part(self.engines.engine_hits, self.engines.total)

    @property
    def reused_share(self) -> float:
        """Part of the prompt tokens that no engine had to compute."""
        return part(self.engines.hits, self.engines.total)

    @property
    def found_share(self) -> float:
        """Part of the tokens asked of LMCache, in whole chunks, that it found."""
        return part(self.caches.found, self.caches.asked)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers: its pod, since when it is ready, and its newest sample."""

    pod: Json
    since: float
    sample: EngineSample | None

    @property
    def name(self) -> str:
        """Name of the pod."""
        return str(self.pod["metadata"]["name"])

    @property
    def uid(self) -> str:
        """UID of the pod."""
        return str(self.pod["metadata"]["uid"])


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a rule may look at, as it was known at `at`.

    `settled` says that no rollout of engines or cache servers is under way. `servers` are the pods of LMCache servers
    that answer (None where engines have theirs in their own pods); `caches` the newest samples of LMCache servers by
    pod. `recent` is the shortest stretch with enough requests, `window` the whole window. `told` is the reason that
    the condition gives now, `sharing` what the self-test says.
    """

    target: Target
    at: float
    measurement: Measurement
    settled: bool
    engines: tuple[Engine, ...]
    servers: tuple[str, ...] | None
    caches: Mapping[str, CacheSample]
    recent: Traffic
    window: Traffic
    told: Reason | None
    sharing: Verdict | None

    @property
    def step(self) -> float:
        """Seconds from one look to the next."""
        return step(self.target)

    def over(self, steps: float) -> Traffic:
        """Return what was counted over the last so many steps between two scrapes."""
        return traffic(self.measurement, self.at, (steps - 0.5) * self.step)


def step(target: Target) -> float:
    """Return the seconds from one look to the next: those between two scrapes, but not less than `LEAST_STEP`."""
    return max(float(target.settings.scrape_interval), LEAST_STEP)


def gather(  # noqa: PLR0913 - all that is known
    target: Target,
    observed: Observed,
    measurement: Measurement,
    at: float,
    *,
    told: Reason | None = None,
    settled: bool = True,
    sharing: Verdict | None = None,
) -> Evidence:
    """Return the evidence as it was at a time: without later samples, and with the pods that were ready then."""
    known = measurement.until(at)
    samples = {sample.pod_uid: sample for sample in known.latest(known.engines)}
    pods = ready_pods(observed, Component.ENGINE, at)
    shared = Component.CACHE_SERVER in target.components
    servers = tuple(pod["metadata"]["name"] for pod, _ in ready_pods(observed, Component.CACHE_SERVER, at))
    return Evidence(
        target=target,
        at=at,
        measurement=known,
        settled=settled,
        engines=tuple(Engine(pod, since, samples.get(pod["metadata"]["uid"])) for pod, since in pods),
        servers=servers if shared else None,
        caches={pod: samples[-1] for pod, samples in known.caches.items()},
        recent=_recent(known, target, at),
        window=traffic(known, at, float(target.settings.window)),
        told=told,
        sharing=sharing,
    )


def traffic(measurement: Measurement, at: float, span: float) -> Traffic:
    """Return what was counted over the last `span` seconds, and over how many it really was."""
    since = at - span
    begun = [kept[0].at for samples in measurement.engines.values() if (kept := recent(samples, since))]
    return Traffic(
        seconds=at - min(begun, default=at),
        engines=measurement.engine_counts(since),
        caches=measurement.cache_counts(since),
        routers=measurement.router_counts(since),
        by_engine={uid: EngineCounts(*grown(samples, since)) for uid, samples in measurement.engines.items()},
    )


def _recent(measurement: Measurement, target: Target, at: float) -> Traffic:
    """Return the shortest stretch with enough requests, from one step between two scrapes up to the whole window."""
    window = float(target.settings.window)
    for steps in (1, 2, 4, 8):
        found = traffic(measurement, at, min((steps - 0.5) * step(target), window))
        if found.engines.requests >= ENOUGH_REQUESTS:
            return found
    return traffic(measurement, at, window)


def ready_pods(observed: Observed, component: Component, at: float) -> Iterator[tuple[Json, float]]:
    """Yield the pods of a component that were ready at a time, and since when, as far as their conditions tell."""
    for pod in sorted(observed.pods, key=lambda pod: str(pod["metadata"]["name"])):
        if pod["metadata"]["labels"].get(COMPONENT_LABEL) != component.value or "deletionTimestamp" in pod["metadata"]:
            continue
        for condition in pod.get("status", {}).get("conditions", []):
            if condition["type"] == "Ready":
                changed = seconds(condition["lastTransitionTime"])
                if (condition["status"] == "True") == (changed <= at):
                    yield pod, changed


def part(some: float, of: float) -> float:
    """Return a part of a whole, 0 where there is none."""
    return some / of if of else 0.0
