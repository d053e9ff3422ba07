"""What a token costs to compute and to take from the server, in seconds of a request's time, with how sure that is.

Times to first token are sums over requests, so least squares over the stretches between scrapes tell the parts apart:

    seconds until first tokens = computed tokens x a + tokens from the server x b + requests x c

vLLM counts a load from a KV connector as waiting, so only the whole is of use. Stretches in which requests queued for
room say nothing about costs and are left out. What a reload costs may change from one moment to the next, computing
does not: so b may be fitted apart for lately and before, with all stretches telling a and c, but for those in which the
change may fall.

What moving KV from the server takes, engines count by themselves, too (`llmcache_runtime/connector.py`), and vLLM
counts the time of prefills. That needs no fit; but it leaves out what a second tier takes to bring KV to the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING

from llmcache_operator.core.counts import EngineCounts
from llmcache_operator.core.growth import recent, restarted, steps, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmcache_operator.core.values import EngineSample
    from llmcache_operator.core.window import Measurement

LEAST_STRETCHES = 8
LEAST_TOKENS = 1000.0
LEAST_MOVED = 500.0

Matrix = list[list[float]]


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds for a token, by the engines' own counts, and of how many. `part` of all time went into moving."""

    compute: float
    reload: float
    computed: float
    reloaded: float
    part: float


def rates(measurement: Measurement, since: float, lately: float) -> Rates | None:
    """Return what computing a token took since a time, and moving one from the server since `lately`.

    Prefills that run at once share an engine, so they count no more time than has passed and no load took. vLLM adds a
    prefill up when its request ends. None where too little happened.
    """
    computing = computed = loading = loaded = passed = 0.0
    for samples in measurement.engines.values():
        all_along, seconds = _summed(samples, since)
        computing += min(all_along.prefilling, max(0.0, seconds - all_along.loading))
        computed += all_along.prefilled
        newest, seconds = _summed(samples, lately)
        loading, loaded, passed = loading + newest.loading, loaded + newest.loaded, passed + seconds
    if computed < LEAST_TOKENS or loaded < LEAST_MOVED or not passed:
        return None
    return Rates(computing / computed, loading / loaded, computed, loaded, loading / passed)


def _summed(samples: Sequence[EngineSample], since: float) -> tuple[EngineCounts, float]:
    """Return what counters grew by since a time, and the seconds that it took."""
    found = list(steps(samples, since))
    return EngineCounts(*total(grown for _, grown in found)), sum(seconds for seconds, _ in found)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds for a token, the standard error of their difference, and what they were measured on.

    `spare` is by how many stretches there are more than it takes to tell what a reload costs.
    """

    compute: float
    reload: float
    error: float
    computed: float
    reloaded: float
    stretches: int
    spare: int


def costs(measurement: Measurement, since: float, lately: float | None = None, gap: float = 0.0) -> Costs | None:
    """Return what tokens cost since a time, or what reloading them costs since `lately`.

    Stretches that end in the `gap` seconds before `lately` are left out. None where too little happened, or nothing
    that tells the parts apart.
    """
    rows = [row for samples in measurement.engines.values() for row in _rows(samples, since, lately, gap)]
    computed, reloaded = sum(row[0] for row in rows), sum(row[1] for row in rows)
    if len(rows) < LEAST_STRETCHES or min(computed, reloaded) < LEAST_TOKENS:
        return None
    *columns, seconds, earlier = ([row[index] for row in rows] for index in range(5))
    if any(earlier):
        columns.append(earlier)
    fitted = _fitted(columns, seconds)
    if fitted is None:
        return None
    compute, reload, error = fitted
    telling = sum(row[1] > 0 for row in rows) if any(earlier) else len(rows) - 2
    return Costs(compute, reload, error, computed, reloaded, len(rows), max(1, telling - 1))


def _fitted(columns: Sequence[Sequence[float]], seconds: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the first two coefficients, and the standard error of their difference."""
    inverse = _inverse([[_dot(a, b) for b in columns] for a in columns])
    spare = len(seconds) - len(columns)
    if inverse is None or spare < 1:
        return None
    products = [_dot(column, seconds) for column in columns]
    found = [_dot(line, products) for line in inverse]
    missed = sum((told - _dot(found, row)) ** 2 for told, row in zip(seconds, zip(*columns, strict=True), strict=True))
    spread = inverse[0][0] + inverse[1][1] - 2 * inverse[0][1]
    return found[0], found[1], sqrt(max(0.0, missed / spare * spread))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _rows(
    samples: Sequence[EngineSample], since: float, lately: float | None, gap: float
) -> Iterator[tuple[float, float, float, float, float]]:
    """Yield of each stretch tokens computed and reloaded, requests, seconds to first tokens, tokens reloaded before."""
    for before, after in pairwise(recent(samples, since)):
        if before.queued or after.queued or restarted(before, after) or after.served <= before.served:
            continue
        if lately is not None and lately - gap < after.at <= lately:
            continue
        reloaded = after.server_hits - before.server_hits
        counts = lately is None or after.at > lately
        yield (
            after.computed - before.computed,
            reloaded if counts else 0,
            after.served - before.served,
            after.busy - before.busy,
            0 if counts else reloaded,
        )


def _inverse(matrix: Matrix) -> Matrix | None:
    """Return the inverse of a symmetric matrix by Gauss and Jordan; None where it has none, within rounding."""
    size = len(matrix)
    rows = [[*line, *(float(i == j) for j in range(size))] for i, line in enumerate(matrix)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        if abs(rows[pivot][column]) <= 1e-9 * max(1.0, matrix[column][column]):
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = rows[column][column]
        rows[column] = [value / lead for value in rows[column]]
        for row in range(size):
            if row != column:
                factor = rows[row][column]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return [line[size:] for line in rows]
