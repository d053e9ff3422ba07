"""What a verdict is judged by: the pods that are there and what they counted, as known at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.core.counts import EngineCounts
from llmcache_operator.core.growth import begins, recent, total
from llmcache_operator.core.readiness import ready_pods_at
from llmcache_operator.core.target import Component

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from llmcache_operator.api.conditions import Reason
    from llmcache_operator.core.conditions import Verdict
    from llmcache_operator.core.counts import CacheCounts, RouterCounts
    from llmcache_operator.core.growth import Sample
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import CacheSample, EngineSample, Json, Observed
    from llmcache_operator.core.window import Measurement

NOTHING = 0.01
"""Part of the prompt tokens below which a cache counts as giving nothing."""

ENOUGH_REQUESTS = 6
"""Requests in a stretch of time before anything is concluded from it."""

STEPS = (1, 2, 4, 8)
"""Stretches of time that rules look at, in steps between two scrapes; the last one is the window."""

SAME_SCRAPE = 5.0
"""Seconds within which the pods of one round of scrapes are measured."""

LEAST_STEP = 10.0
"""Seconds: verdicts take at least this long from one look to the next, however often pods are scraped."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was counted over the last `seconds`, in all and by engine (pod UID).

    `backlog` are the requests that were there when it began, of which many got their first token later. `servers_seen`
    says that the LMCache servers were measured all that time, so that their counters compare.
    """

    seconds: float
    engines: EngineCounts
    caches: CacheCounts
    routers: RouterCounts
    by_engine: Mapping[str, EngineCounts]
    backlog: int
    servers_seen: bool

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
    pod. `spans` are stretches of time, the shortest first. `told` is the reason that the condition gives now, `sharing`
    what the self-test says.
    """

    target: Target
    at: float
    measurement: Measurement
    settled: bool
    engines: tuple[Engine, ...]
    servers: tuple[str, ...] | None
    caches: Mapping[str, CacheSample]
    spans: tuple[Traffic, ...]
    told: Reason | None
    sharing: Verdict | None

    @property
    def step(self) -> float:
        """Seconds from one look to the next."""
        return step(self.target)

    @property
    def recent(self) -> Traffic:
        """The shortest stretch with enough requests, or the whole window."""
        return next((span for span in self.spans if span.engines.requests >= ENOUGH_REQUESTS), self.window)

    @property
    def window(self) -> Traffic:
        """The whole window."""
        return self.spans[-1]

    def over(self, steps: int) -> Traffic:
        """Return what was counted over the last so many steps between two scrapes, one of `STEPS`."""
        return self.spans[STEPS.index(steps)]


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
    pods = ready_pods_at(observed, Component.ENGINE, at)
    shared = Component.CACHE_SERVER in target.components
    servers = tuple(pod["metadata"]["name"] for pod, _ in ready_pods_at(observed, Component.CACHE_SERVER, at))
    return Evidence(
        target=target,
        at=at,
        measurement=known,
        settled=settled,
        engines=tuple(Engine(pod, since, samples.get(pod["metadata"]["uid"])) for pod, since in pods),
        servers=servers if shared else None,
        caches={pod: samples[-1] for pod, samples in known.caches.items()},
        spans=_spans(known, target, at),
        told=told,
        sharing=sharing,
    )


def traffic(measurement: Measurement, at: float, span: float) -> Traffic:
    """Return what was counted over the last `span` seconds, and over how many it really was."""
    since = at - span
    begun = min(_begins(measurement.engines.values(), since), default=at)
    servers = list(_begins(measurement.caches.values(), since))
    by_engine = measurement.by_engine(since)
    return Traffic(
        seconds=at - begun,
        engines=EngineCounts(*total(by_engine.values())),
        caches=measurement.cache_counts(since),
        routers=measurement.router_counts(since),
        by_engine=by_engine,
        backlog=sum(first.running + first.waiting for first in _firsts(measurement, since)),
        servers_seen=bool(servers) and max(servers) <= begun + SAME_SCRAPE,
    )


def _firsts(measurement: Measurement, since: float) -> Iterator[EngineSample]:
    """Yield the sample of each engine with which counting since a time begins."""
    for samples in measurement.engines.values():
        yield from recent(samples, since)[:1]


def _begins(pods: Iterable[Sequence[Sample]], since: float) -> Iterator[float]:
    """Yield from when on the counters of each pod tell what grew."""
    return (begun for samples in pods if (begun := begins(samples, since)) is not None)


def _spans(measurement: Measurement, target: Target, at: float) -> tuple[Traffic, ...]:
    """Return the traffic of 1, 2, 4 and 8 steps between two scrapes, and of the window."""
    window = float(target.settings.window)
    spans = [min((steps - 0.5) * step(target), window) for steps in STEPS]
    return tuple(traffic(measurement, at, span) for span in (*spans, window))


def part(some: float, of: float) -> float:
    """Return a part of a whole, 0 where there is none."""
    return some / of if of else 0.0
