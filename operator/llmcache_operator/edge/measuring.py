"""What the scrapes found, per service, until a reconcile reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.window import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmcache_operator.core.values import ServiceKey


class MeasurementBook:
    """Measurements of services; fulfils `reconcile.MeasurementStore`.

    A measurement belongs to one object: another one of the same name, known by its UID, starts from nothing.
    """

    def __init__(self) -> None:
        self._by_key: dict[ServiceKey, tuple[str, Measurement]] = {}

    def measurement(self, key: ServiceKey, uid: str) -> Measurement:
        """See `MeasurementStore`."""
        owner, measurement = self._by_key.get(key, (uid, Measurement()))
        return measurement if owner == uid else Measurement()

    def forget(self, key: ServiceKey) -> None:
        """See `MeasurementStore`."""
        self._by_key.pop(key, None)

    def update(self, key: ServiceKey, uid: str, change: Callable[[Measurement], Measurement]) -> None:
        """Replace what is known of a service by what `change` makes of it."""
        self._by_key[key] = (uid, change(self.measurement(key, uid)))
