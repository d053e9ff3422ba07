"""The Valkey of a service: what it holds, and what can go wrong with it, done for real."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.kube import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from e2e.services import Service

# Debian's Redis in the place of Valkey; the password is in the container's environment.
CLI = "redis-cli"
CHUNK = 256


@dataclass(frozen=True)
class Fault:
    """A fault, undone when its context ends, and the reason of the condition L2Ready that has to name it."""

    reason: str
    inject: Callable[[Service], AbstractContextManager[None]]


def in_valkey(service: Service, command: str) -> str:
    """Run a shell command in the pod."""
    return service.kube.run("exec", f"{service.name}-valkey-0", "--", "sh", "-c", command)


def keys(service: Service) -> int:
    """Return how many chunks Valkey holds; the guards' own key has no model in its name."""
    return int(in_valkey(service, f"{CLI} --scan --pattern '*@*' | wc -l"))


def await_stored(service: Service, before: int, tokens: int) -> None:
    """Wait until it holds the whole chunks of a prompt on top: LMCache brings them there after it has answered."""
    wait_until("the prefix is in Valkey", lambda: keys(service) - before >= tokens // CHUNK, seconds=60, every=0.5)


def _commands(do: str, undo: str) -> Callable[[Service], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def inject(service: Service) -> Iterator[None]:
        try:
            in_valkey(service, do)
            yield
        finally:
            in_valkey(service, undo)

    return inject


_END_CONNECTIONS = f"{CLI} client kill type normal skipme yes"

FAULTS = {
    # Nothing can end it early; the liveness probe would after a minute.
    "hangs": Fault("L2Unreachable", _commands(f"{CLI} client pause 40000 all", "true")),
    "is full": Fault(
        "L2Full",
        _commands(
            f"{CLI} config set maxmemory-policy noeviction; {CLI} config set maxmemory 1",
            f"{CLI} config set maxmemory 536870912; {CLI} config set maxmemory-policy allkeys-lru",
        ),
    ),
    "wants another password": Fault(
        "L2AuthenticationFailed",
        _commands(
            f"{CLI} config set requirepass other; REDISCLI_AUTH=other {_END_CONNECTIONS}",
            f'REDISCLI_AUTH=other {CLI} config set requirepass "$PASSWORD"',
        ),
    ),
}
