"""A histogram that is cheap to add to: once for each piece of each stream."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry


class Buckets:
    """Counts by bucket without a lock: the router has one thread. prometheus_client's own take five times as long."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Add a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Give the samples."""
        bounds = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(bounds, map(float, accumulate(self._counts)), strict=True)), self._sum)


class FastHistogram(Collector):
    """A family of them by the values of its labels, the first of which is the engine."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], labels: tuple[str, ...], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self._bounds = bounds
        self._labels = labels
        self._series: dict[tuple[str, ...], Buckets] = {}
        registry.register(self)

    def of(self, *values: str) -> Buckets:
        """Give the one of these values. Ask while the engine is there: asking for one that has left lists it again."""
        buckets = self._series.get(values)
        if buckets is None:
            buckets = self._series[values] = Buckets(self._bounds)
        return buckets

    def forget(self, engine: str) -> None:
        """Drop the series of an engine. What is still added to them is not shown."""
        for values in [values for values in self._series if values[0] == engine]:
            del self._series[values]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give the samples."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, buckets in self._series.items():
            buckets.add_to(family, values)
        yield family
