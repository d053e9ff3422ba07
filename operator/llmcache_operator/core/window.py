"""What was measured over the last minutes: hit rates from differences of the engines' own counters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from llmcache_operator.core.values import CacheSample, EngineSample, ScrapeFailure, SelfTestResult


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

    def less(self, other: Tokens) -> Tokens:
        """Take away, but never more than there is."""
        return Tokens(
            max(0, self.computed - other.computed),
            max(0, self.engine_hits - other.engine_hits),
            max(0, self.server_hits - other.server_hits),
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

    Engines are kept by pod UID and in order of time, those of pods that left included until they are out of the
    window: what they served counts.
    """

    engines: Mapping[str, tuple[EngineSample, ...]] = field(default_factory=dict)
    cache: CacheSample | None = None
    failures: Mapping[str, ScrapeFailure] = field(default_factory=dict)
    own: tuple[OwnRequest, ...] = ()
    self_test: SelfTestResult | None = None

    def with_engine(self, sample: EngineSample) -> Measurement:
        """Add a sample of an engine, which also ends its failure. A model path once learned stays known."""
        earlier = self.engines.get(sample.pod_uid, ())
        if sample.model_path is None and earlier and not _restarted(earlier[-1], sample):
            sample = replace(sample, model_path=earlier[-1].model_path)
        engines = {**self.engines, sample.pod_uid: (*earlier, sample)}
        return replace(self, engines=engines, failures=_without(self.failures, sample.pod))

    def with_cache(self, sample: CacheSample, pod: str = "") -> Measurement:
        """Replace the sample of the LMCache server, which also ends the failure of `pod`."""
        return replace(self, cache=sample, failures=_without(self.failures, pod))

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

        Of each engine the newest sample from before the window stays: it is where the window's counting begins.
        """
        engines = {uid: _recent(samples, now - window) for uid, samples in self.engines.items()}
        cache = self.cache if self.cache and self.cache.at >= now - window else None
        failures = {pod: failure for pod, failure in self.failures.items() if pod in pods}
        # Counting begins with a sample from before the window, so requests from before it still matter.
        own = tuple(request for request in self.own if request.until >= now - 2 * window)
        kept = {uid: samples for uid, samples in engines.items() if samples}
        return replace(self, engines=kept, cache=cache, failures=failures, own=own)

    def tokens(self, now: float, window: float) -> Tokens:
        """Return the prompt tokens that engines took in during the window, less those the operator sent itself."""
        since = now - window
        spans = (_span(samples, since).less(self._own(samples, since)) for samples in self.engines.values())
        return sum(spans, Tokens())

    def _own(self, samples: tuple[EngineSample, ...], since: float) -> Tokens:
        """Return the tokens of own requests that are, or may be, in what one pod's samples count."""
        kept = _recent(samples, since)
        if not kept:
            return Tokens()
        begin = kept[0].started_at if _is_counted_whole(kept[0], since) and kept[0].started_at else kept[0].at
        counted = (
            request.tokens
            for request in self.own
            if request.pod_uid == kept[0].pod_uid and request.until > begin and request.since <= kept[-1].at
        )
        return sum(counted, Tokens())

    def latest(self, pod_uids: Collection[str]) -> list[EngineSample]:
        """Return the newest sample of each of some pods that has one."""
        return [samples[-1] for uid, samples in sorted(self.engines.items()) if uid in pod_uids]


def _recent(samples: tuple[EngineSample, ...], since: float) -> tuple[EngineSample, ...]:
    before = [sample for sample in samples if sample.at < since]
    within = tuple(sample for sample in samples if sample.at >= since)
    return (*before[-1:], *within) if within else ()


def _span(samples: tuple[EngineSample, ...], since: float) -> Tokens:
    """Return what one pod's counters grew by. Counters that fell began again from 0: the engine restarted."""
    kept = _recent(samples, since)
    if not kept:
        return Tokens()
    first, total = kept[0], Tokens()
    if _is_counted_whole(first, since):
        total = _counted(first)
    for earlier, later in pairwise(kept):
        total += _counted(later) if _restarted(earlier, later) else _growth(earlier, later)
    return total


def _is_counted_whole(first: EngineSample, since: float) -> bool:
    """Whether all that an engine counted before its first sample is of the window too: it started in it."""
    return first.at >= since and first.started_at is not None and first.started_at >= since


def _restarted(earlier: EngineSample, later: EngineSample) -> bool:
    fell = (
        later.computed < earlier.computed
        or later.engine_hits < earlier.engine_hits
        or later.server_hits < earlier.server_hits
    )
    return fell or later.started_at != earlier.started_at


def _counted(sample: EngineSample) -> Tokens:
    return Tokens(sample.computed, sample.engine_hits, sample.server_hits)


def _growth(earlier: EngineSample, later: EngineSample) -> Tokens:
    return Tokens(
        later.computed - earlier.computed,
        later.engine_hits - earlier.engine_hits,
        later.server_hits - earlier.server_hits,
    )


def _without(failures: Mapping[str, ScrapeFailure], pod: str) -> Mapping[str, ScrapeFailure]:
    return {name: failure for name, failure in failures.items() if name != pod}
