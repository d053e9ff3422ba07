"""Series out of Prometheus text: only those asked for, and only numbers that can be counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a float counts exactly. More is no count, and would not fit into a status either.
LARGEST = 2**53

Series = list[tuple[dict[str, str], float]]
Found = dict[str, Series]


def series(metrics: str, names: Iterable[str]) -> Found:
    """Return the series of some names; parses only their lines, since most of a scrape is histograms.

    Raises ValueError when the text can't be read or a value is negative, NaN or too large for a count.
    """
    found: Found = {name: [] for name in names}
    lines = [line for line in metrics.splitlines() if line.startswith(tuple(found))]
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if sample.name in found:
                    found[sample.name].append((sample.labels, _sane(sample.name, sample.value)))
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"the metrics can't be read: {error}") from error
    return found


def maybe(found: Found, name: str, **labels: str) -> int | None:
    """Return the sum of a counter over its series that have these labels, or None where there are none."""
    values = [value for have, value in found[name] if labels.items() <= have.items()]
    return int(_sane(name, sum(values))) if values else None


def total(found: Found, name: str, **labels: str) -> int:
    """Return the same of a series that has to be there; raises ValueError where it is not."""
    value = maybe(found, name, **labels)
    if value is None:
        wanted = f"{name}{labels}" if labels else name
        raise ValueError(f"the metrics hold no {wanted}: is this a vLLM of 0.32 or later?")
    return value


def _sane(name: str, value: float) -> float:
    if 0 <= value <= LARGEST:
        return value
    raise ValueError(f"{name} is {value}")
