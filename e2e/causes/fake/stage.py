"""All causes on fake engines at once, each in a namespace of its own, under one real operator and API server."""

from __future__ import annotations

import socket
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

NETWORKS = range(16, 250)
LOCK_PORT = 8080


@dataclass(frozen=True)
class Stage:
    """What all fleets of a run share. `network` is the second byte of their pods' addresses."""

    network: int
    client: httpx.Client
    watch: Watch
    loop: Loop

    def fleet(self, number: int, cause: Cause[Fleet] | None = None) -> Fleet:
        """Make the fleet of one cause, not started yet."""
        api = Api(self.client, f"causes-{uuid.uuid4().hex[:8]}")
        fleet = Fleet(api, self.watch, self.loop, f"127.{self.network}.{number}")
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
    with network() as second, proxied(kubeconfig) as client, Watch(kubeconfig) as watch, Loop() as loop:
        yield Stage(second, client, watch, loop)


@contextmanager
def network() -> Iterator[int]:
    """Take a part of loopback, 127.N.0.0/16, that no other run on this machine has; gives N."""
    for second in NETWORKS:
        with socket.socket() as lock:
            try:
                lock.bind((f"127.{second}.255.254", LOCK_PORT))
            except OSError:
                continue
            yield second
            return
    raise LookupError(f"all of 127.{NETWORKS[0]}.0.0/16 to 127.{NETWORKS[-1]}.0.0/16 are taken: are old runs left?")
