"""One cause of silent zero or bad hits, and what became of it once it was injected and cured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from e2e.causes.traffic import Traffic, Usage
    from e2e.causes.watch import Seen
    from e2e.kube import Json

BAR_SECONDS = 60.0
"""Within which a cause has to be named, and within which its name has to go after the cure."""


class World(Protocol):
    """A service under load in which causes are injected.

    `usages` grows with every answer that its clients get.
    """

    traffic: Traffic
    usages: list[Usage]

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the resource."""

    def history(self) -> Sequence[Seen]:
        """Return all versions of the resource so far, oldest first."""

    def cache(self) -> Json:
        """Return the newest `status.cache`."""

    def conditions(self) -> dict[str, Json]:
        """Return the newest conditions of the resource, by type."""


W = TypeVar("W", bound=World)


@dataclass(frozen=True)
class Cause(Generic[W]):
    """A cause: how it is injected and cured, and which reason of which condition has to name it.

    `prepare` sets the service up before it starts. `well` are the reasons that the condition has to show before the
    injection, `after` those that it may show after the cure: after one that restarts the server, an empty cache is the
    truth.
    """

    name: str
    how: str
    condition: str
    reason: str
    inject: Callable[[W], None]
    cure: Callable[[W], None]
    well: frozenset[str] = frozenset({"Effective"})
    after: frozenset[str] = frozenset({"Effective"})
    prepare: Callable[[W], None] = lambda _: None


@dataclass(frozen=True)
class Result:
    """What happened. Times in seconds; None where it did not happen within `patience`."""

    cause: str
    how: str
    engines: str
    condition: str
    reason: str
    shown: str
    message: str
    named: float | None
    cleared: float | None

    @property
    def holds(self) -> bool:
        """Whether the cause was named and cleared in time."""
        return all(seconds is not None and seconds <= BAR_SECONDS for seconds in (self.named, self.cleared))


def prove(cause: Cause[W], world: W, *, engines: str, patience: float = 2 * BAR_SECONDS) -> Result:
    """Inject a cause into a service that is well, wait for its name, cure it, wait until the name is gone.

    A service that is not well within `patience` proves nothing: its cause counts as not named.
    """
    well = reason_is(world, cause.condition, cause.well, patience)
    cause.inject(world)
    named = None if well is None else reason_is(world, cause.condition, {cause.reason}, patience)
    shown = world.conditions().get(cause.condition, {})
    cause.cure(world)
    cleared = reason_is(world, cause.condition, cause.after, patience)
    return Result(
        cause=cause.name,
        how=cause.how,
        engines=engines,
        condition=cause.condition,
        reason=cause.reason,
        shown=shown.get("reason", "nothing"),
        message=shown.get("message", ""),
        named=named,
        cleared=None if named is None else cleared,
    )


def reason_is(world: World, condition: str, reasons: Collection[str], patience: float) -> float | None:
    """Wait until a condition shows one of some reasons; the seconds that it took, or None when it took too long."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) <= patience:
        if world.conditions().get(condition, {}).get("reason") in reasons:
            return waited
        time.sleep(0.1)
    return None
