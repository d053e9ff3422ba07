"""Counters that are cheap to add to: several times for each request."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry


class Counters(Collector):
    """A family of counters by the values of its labels; one without labels begins at 0.

    There is no lock: the router has one thread. prometheus_client's own take ten times as long.
    """

    def __init__(self, name: str, text: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._counts: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        registry.register(self)

    def add(self, labels: tuple[str, ...] = (), amount: float = 1.0) -> None:
        """Count."""
        self._counts[labels] = self._counts.get(labels, 0.0) + amount

    def forget(self, labels: tuple[str, ...]) -> None:
        """Drop a series."""
        self._counts.pop(labels, None)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give the samples."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        yield family
