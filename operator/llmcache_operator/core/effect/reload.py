"""What a token costs to compute and to take from the server, in seconds of a request's time, with how sure that is.

Times to first token are sums over requests, so least squares over the stretches between scrapes tell the parts apart:

    seconds until first tokens = computed tokens x a + tokens from the server x b + requests x c

vLLM counts a load from a KV connector as waiting, so only the whole is of use. Stretches in which requests queued for
room say nothing about costs and are left out. Where all requests are alike, no such sums can tell the parts apart;
there the number of requests that wait for KV, seen at each scrape, says how long they wait (Little's law).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING

from llmcache_operator.core.growth import recent, restarted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmcache_operator.core.values import EngineSample
    from llmcache_operator.core.window import Measurement

LEAST_STRETCHES = 6
LEAST_TOKENS = 1000.0
UNKNOWNS = 3

LEAST_COMPUTING = 0.02
"""Part of the time to first tokens that is never put down to waiting for KV: counts at scrapes are not exact."""

Matrix = list[list[float]]


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds for a token, the standard error of their difference, and what they were measured on."""

    compute: float
    reload: float
    error: float
    computed: float
    reloaded: float
    stretches: int


def costs(measurement: Measurement, since: float) -> Costs | None:
    """Return what tokens cost since a time; None where too little happened, or nothing that tells the parts apart."""
    rows = [row for samples in measurement.engines.values() for row in _rows(samples, since)]
    computed, reloaded = (sum(row[column] for row in rows) for column in (0, 1))
    if len(rows) < LEAST_STRETCHES or min(computed, reloaded) < LEAST_TOKENS:
        return None
    squares = [[sum(row[i] * row[j] for row in rows) for j in range(UNKNOWNS)] for i in range(UNKNOWNS)]
    inverse = _inverse(squares)
    if inverse is None:
        return None
    products = [sum(row[i] * row[UNKNOWNS] for row in rows) for i in range(UNKNOWNS)]
    compute, reload, each = (sum(a * b for a, b in zip(line, products, strict=True)) for line in inverse)
    missed = sum((row[3] - row[0] * compute - row[1] * reload - row[2] * each) ** 2 for row in rows)
    variance = missed / (len(rows) - UNKNOWNS)
    spread = inverse[0][0] + inverse[1][1] - 2 * inverse[0][1]
    return Costs(compute, reload, sqrt(max(0.0, variance * spread)), computed, reloaded, len(rows))


def _rows(samples: Sequence[EngineSample], since: float) -> Iterator[tuple[float, float, float, float]]:
    """Yield tokens computed and reloaded, requests, and seconds until their first tokens, of each stretch."""
    for before, after in pairwise(recent(samples, since)):
        if before.queued or after.queued or restarted(before, after) or after.served <= before.served:
            continue
        yield (
            after.computed - before.computed,
            after.server_hits - before.server_hits,
            after.served - before.served,
            after.busy - before.busy,
        )


def waits(measurement: Measurement, since: float) -> Costs | None:
    """Return the same from the requests that waited for KV at each scrape; its error is that of counting them."""
    seconds = computed = reloaded = busy = 0.0
    seen = looks = 0
    for samples in measurement.engines.values():
        kept = recent(samples, since)
        for before, after in pairwise(kept):
            if after.fetching is None or before.queued or after.queued or restarted(before, after):
                continue
            computed += after.computed - before.computed
            reloaded += after.server_hits - before.server_hits
            busy += after.busy - before.busy
            seconds += after.fetching * (after.at - before.at)
            seen, looks = seen + after.fetching, looks + 1
    if not seen or min(computed, reloaded) < LEAST_TOKENS:
        return None
    reload = seconds / reloaded
    compute = max(busy - seconds, LEAST_COMPUTING * busy) / computed
    return Costs(compute, reload, reload / sqrt(seen), computed, reloaded, looks)


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
