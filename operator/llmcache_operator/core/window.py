"""What was measured over the last minutes: hit rates from differences of the engines' own counters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from llmcache_operator.core.counts import CacheCounts, EngineCounts, RouterCounts
from llmcache_operator.core.growth import Sample, begins, grown, recent, restarted, total

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from llmcache_operator.core.counts import RouterSample
    from llmcache_operator.core.values import CacheSample, EngineSample, L2Sample, ScrapeFailure, SelfTestResult

S = TypeVar("S", bound=Sample)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Prompt tokens by where they came from."""

    computed: int = 0
    engine_hits: int = 0
    server_hits: int = 0

    @property
    def total(self) -> int:
        """All prompt tokens."""
        return self.computed + self.hits

    @property
    def hits(self) -> int:
        """Prompt tokens that no engine had to compute."""
        return self.engine_hits + self.server_hits

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.computed + other.computed,
            self.engine_hits + other.engine_hits,
            self.server_hits + other.server_hits,
        )


@dataclass(frozen=True, slots=True)
class OwnRequest:
    """A request of the self-test: the engine counted `tokens` between two moments, in seconds since the epoch.

    While it runs, `tokens` is the most that it may come to.
    """

    pod_uid: str
    since: float
    until: float
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Measurement:
    """Samples of one service. Immutable: every method returns another one.

    Samples are kept in order of time, engines and routers by pod UID, LMCache servers by pod name, because that of a
    StatefulSet survives its pod; those of pods that left included until they are out of the window: what they
    served counts.
    """

    engines: Mapping[str, tuple[EngineSample, ...]] = field(default_factory=dict)
    caches: Mapping[str, tuple[CacheSample, ...]] = field(default_factory=dict)
    routers: Mapping[str, tuple[RouterSample, ...]] = field(default_factory=dict)
    l2: Mapping[str, L2Sample] = field(default_factory=dict)
    failures: Mapping[str, ScrapeFailure] = field(default_factory=dict)
    own: tuple[OwnRequest, ...] = ()
    self_test: SelfTestResult | None = None

    @property
    def cache(self) -> CacheSample | None:
        """The newest sample of an LMCache server."""
        return max((samples[-1] for samples in self.caches.values()), key=lambda sample: sample.at, default=None)

    def with_engine(self, sample: EngineSample) -> Measurement:
        """Add a sample of an engine, which also ends its failure. What was once learned of its run stays known."""
        earlier = self.engines.get(sample.pod_uid, ())
        if earlier and not restarted(earlier[-1], sample):
            sample = replace(
                sample,
                model_path=sample.model_path or earlier[-1].model_path,
                version=sample.version or earlier[-1].version,
            )
        engines = {**self.engines, sample.pod_uid: (*earlier, sample)}
        return replace(self, engines=engines, failures=_without(self.failures, sample.pod))

    def with_cache(self, sample: CacheSample, pod: str = "") -> Measurement:
        """Add a sample of an LMCache server, which also ends the failure of its pod."""
        caches = {**self.caches, pod: (*self.caches.get(pod, ()), sample)}
        return replace(self, caches=caches, failures=_without(self.failures, pod))

    def with_router(self, sample: RouterSample) -> Measurement:
        """Add a sample of a router, which also ends its failure."""
        routers = {**self.routers, sample.pod_uid: (*self.routers.get(sample.pod_uid, ()), sample)}
        return replace(self, routers=routers, failures=_without(self.failures, sample.pod))

    def with_l2(self, sample: L2Sample, server: str) -> Measurement:
        """Replace what is known of the store behind an LMCache server."""
        return replace(self, l2={**self.l2, server: sample})

    def with_failure(self, failure: ScrapeFailure) -> Measurement:
        """Remember why a pod could not be measured."""
        return replace(self, failures={**self.failures, failure.pod: failure})

    def with_own(self, request: OwnRequest) -> Measurement:
        """Add a request of the operator's own, or say the last word on one that was added when it began."""
        others = (own for own in self.own if (own.pod_uid, own.since) != (request.pod_uid, request.since))
        return replace(self, own=(*others, request))

    def with_self_test(self, result: SelfTestResult) -> Measurement:
        """Replace the result of the self-test."""
        return replace(self, self_test=result)

    def only(self, pods: Collection[str], now: float, window: float) -> Measurement:
        """Forget failures of pods that are not in `pods` (names), and samples that no longer count.

        Of each pod the newest sample from before the window stays: it is where the window's counting begins.
        """
        since = now - window
        return replace(
            self,
            engines=_recent(self.engines, since),
            caches=_recent(self.caches, since),
            routers=_recent(self.routers, since),
            l2={name: sample for name, sample in self.l2.items() if sample.at >= since},
            failures={pod: failure for pod, failure in self.failures.items() if pod in pods},
            # Counting begins with a sample from before the window, so requests from before it still matter.
            own=tuple(request for request in self.own if request.until >= since - window),
        )

    def until(self, at: float) -> Measurement:
        """Return what was known at an earlier time."""
        return replace(
            self, engines=_until(self.engines, at), caches=_until(self.caches, at), routers=_until(self.routers, at)
        )

    def tokens(self, now: float, window: float) -> Tokens:
        """Return the prompt tokens that engines took in during the window, less those the operator sent itself."""
        counts = self.by_engine(now - window).values()
        return sum((Tokens(int(c.computed), int(c.engine_hits), int(c.server_hits)) for c in counts), Tokens())

    def by_engine(self, since: float) -> dict[str, EngineCounts]:
        """Return what each engine counted since a time, by pod UID, without the operator's own requests."""
        return {
            uid: self._less_own(EngineCounts(*counts), samples, since)
            for uid, samples in self.engines.items()
            if (counts := grown(samples, since))
        }

    def cache_counts(self, since: float) -> CacheCounts:
        """Return what all LMCache servers counted since a time."""
        return CacheCounts(*_grown(self.caches.values(), since))

    def router_counts(self, since: float) -> RouterCounts:
        """Return what all routers counted since a time."""
        return RouterCounts(*_grown(self.routers.values(), since))

    def latest(self, pod_uids: Collection[str]) -> list[EngineSample]:
        """Return the newest sample of each of some pods that has one."""
        return [samples[-1] for uid, samples in sorted(self.engines.items()) if uid in pod_uids]

    def _less_own(self, counts: EngineCounts, samples: tuple[EngineSample, ...], since: float) -> EngineCounts:
        """Take the operator's own requests out of what one pod counted."""
        own = self._own(samples, since) if self.own else []
        if not own:
            return counts
        tokens = sum((request.tokens for request in own), Tokens())
        return counts._replace(
            computed=max(0, counts.computed - tokens.computed),
            engine_hits=max(0, counts.engine_hits - tokens.engine_hits),
            server_hits=max(0, counts.server_hits - tokens.server_hits),
            prompt_tokens=max(0, counts.prompt_tokens - tokens.total),
            served=max(0, counts.served - len(own)),
            ended=max(0, counts.ended - len(own)),
            lookups=max(0, counts.lookups - len(own)),
        )

    def _own(self, samples: tuple[EngineSample, ...], since: float) -> list[OwnRequest]:
        """Return the operator's own requests that are, or may be, in what one pod's samples count."""
        begin = begins(samples, since)
        if begin is None:
            return []
        first, last = samples[0], samples[-1]
        return [
            request
            for request in self.own
            if request.pod_uid == first.pod_uid and request.until > begin and request.since <= last.at
        ]


def _grown(pods: Iterable[tuple[Sample, ...]], since: float) -> tuple[float, ...]:
    return total(counts for samples in pods if (counts := grown(samples, since)))


def _recent(pods: Mapping[str, tuple[S, ...]], since: float) -> dict[str, tuple[S, ...]]:
    return {pod: kept for pod, samples in pods.items() if (kept := recent(samples, since))}


def _until(pods: Mapping[str, tuple[S, ...]], at: float) -> dict[str, tuple[S, ...]]:
    known = {pod: tuple(sample for sample in samples if sample.at <= at) for pod, samples in pods.items()}
    return {pod: samples for pod, samples in known.items() if samples}


def _without(failures: Mapping[str, ScrapeFailure], pod: str) -> Mapping[str, ScrapeFailure]:
    return {name: failure for name, failure in failures.items() if name != pod}
