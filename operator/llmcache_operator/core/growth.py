"""What counters grew by over a stretch of time, restarts of what counts included."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Counts = tuple[float, ...]

# So many counters of each kind are there in every version and depend on no setting: they alone tell a restart.
TELLING = 3


class Sample(Protocol):
    """One scrape: when, since when its counters count (None where it is not told), and the counters."""

    @property
    def at(self) -> float:
        """Time of the scrape, in seconds since the epoch."""

    @property
    def started_at(self) -> float | None:
        """When the counters began, likewise."""

    @property
    def counts(self) -> Counts:
        """The counters."""


S = TypeVar("S", bound=Sample)


def recent(samples: Sequence[S], since: float) -> tuple[S, ...]:
    """Return the samples from `since` on, after the newest one from before: it is where counting begins."""
    before = [sample for sample in samples if sample.at < since]
    within = tuple(sample for sample in samples if sample.at >= since)
    return (*before[-1:], *within) if within else ()


def restarted(earlier: Sample, later: Sample) -> bool:
    """Whether counters began again between two samples: they fell, or say so themselves."""
    return later.started_at != earlier.started_at or _fell(earlier.counts, later.counts)


def _fell(before: Counts, now: Counts) -> bool:
    return any(now[index] < before[index] for index in range(min(TELLING, len(before))))


def begins_within(first: Sample, since: float) -> bool:
    """Whether all that was counted before a pod's first sample is of the stretch too: its counters began in it."""
    return first.at >= since and first.started_at is not None and first.started_at >= since


def begins(samples: Sequence[Sample], since: float) -> float | None:
    """Return from when on a pod's counters tell what grew since a time; None where they tell nothing of it."""
    kept = recent(samples, since)
    if not kept:
        return None
    return (kept[0].started_at if begins_within(kept[0], since) else None) or kept[0].at


def steps(samples: Sequence[Sample], since: float) -> Iterator[tuple[float, Counts]]:
    """Yield what counters grew by from one sample to the next, with the seconds between.

    What counts began within the stretch has all of its first sample counted.
    """
    kept = recent(samples, since)
    if kept and begins_within(kept[0], since):
        yield kept[0].at - (kept[0].started_at or since), kept[0].counts
    for (earlier, before), (later, now) in pairwise((sample, sample.counts) for sample in kept):
        again = later.started_at != earlier.started_at or _fell(before, now)
        grown = now if again else tuple(max(0, b - a) for a, b in zip(before, now, strict=True))
        yield later.at - earlier.at, grown


def grown(samples: Sequence[Sample], since: float) -> Counts:
    """Return what counters grew by since a time; empty where there is nothing to tell it by."""
    return total(counts for _, counts in steps(samples, since))


def total(all_counts: Iterable[Counts]) -> Counts:
    """Add counters up, each with its own kind."""
    return tuple(map(sum, zip(*all_counts, strict=True)))
