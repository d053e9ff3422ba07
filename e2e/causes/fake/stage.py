"""All causes on fake engines at once, each in a namespace of its own, under one real operator and API server."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.causes.cause import BAR_SECONDS, Result, prove
from e2e.causes.fake.api import Api, proxied
from e2e.causes.fake.fleet import Fleet
from e2e.causes.fake.serving import Loop
from e2e.causes.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import httpx

    from e2e.causes.cause import Cause

FIRST_SUBNET = 100


@dataclass(frozen=True)
class Stage:
    """What all fleets of a run share."""

    client: httpx.Client
    watch: Watch
    loop: Loop

    def fleet(self, number: int, cause: Cause[Fleet] | None = None) -> Fleet:
        """Make the fleet of one cause, not started yet."""
        api = Api(self.client, f"causes-{uuid.uuid4().hex[:8]}")
        fleet = Fleet(api, self.watch, self.loop, FIRST_SUBNET + number)
        if cause is not None:
            cause.prepare(fleet)
        return fleet

    def prove_all(self, causes: Sequence[Cause[Fleet]], patience: float = 2 * BAR_SECONDS) -> list[Result]:
        """Inject each cause into a fleet of its own, all at the same time."""

        def one(number: int) -> Result:
            fleet = self.fleet(number, causes[number])
            try:
                fleet.start()
                return prove(causes[number], fleet, engines="fake", patience=patience)
            finally:
                fleet.stop()

        with ThreadPoolExecutor(len(causes)) as pool:
            return list(pool.map(one, range(len(causes))))


@contextmanager
def stage(kubeconfig: Path) -> Iterator[Stage]:
    """Provide what fleets need of a cluster in which an operator is at work."""
    with proxied(kubeconfig) as client, Watch(kubeconfig) as watch, Loop() as loop:
        yield Stage(client, watch, loop)
