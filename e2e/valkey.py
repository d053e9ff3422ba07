"""The Valkey of a service: what it holds, and what can go wrong with it, done for real."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.causes.real.node import in_network, processes
from e2e.cluster.errors import ClusterError
from e2e.kube import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from e2e.kube import Json
    from e2e.services import Service

# Debian's Redis in the place of Valkey; the password is in the container's environment.
CLI = "redis-cli"
CHUNK = 256
_DELAY = Path(__file__).with_name("delay.py")
_PORT, _DELAY_PORT, _DELAY_SECONDS = 6379, 16379, 0.1


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


@contextlib.contextmanager
def _gone(service: Service) -> Iterator[None]:
    """Nobody starts it again while the operator leaves the service as it is."""
    valkey = f"{service.name}-valkey"
    try:
        service.pause()
        service.kube.run("scale", "statefulset", valkey, "--replicas=0")
        service.kube.run(
            "delete", "pod", f"{valkey}-0", "--grace-period=0", "--force", "--wait=false", "--ignore-not-found"
        )
        yield
    finally:
        service.go_on()
        wait_until("Valkey is back", lambda: service.kube.is_ready(f"{valkey}-0"), seconds=120)


@contextlib.contextmanager
def _slow(service: Service) -> Iterator[None]:
    """Lead new connections through a proxy in the network of its pod; the ones that are there end."""
    pod: Json = service.kube.get("pod", f"{service.name}-valkey-0") or {}
    rule = ("PREROUTING", "--protocol", "tcp", "--dport", str(_PORT))
    redirect = ("--jump", "REDIRECT", "--to-ports", str(_DELAY_PORT))
    proxy = [sys.executable, str(_DELAY), str(_DELAY_PORT), str(_PORT), str(_DELAY_SECONDS)]
    within = ["nsenter", f"--net=/proc/{processes(pod)[0]}/ns/net"]
    with subprocess.Popen([*within, *proxy], stdout=subprocess.PIPE) as process, contextlib.ExitStack() as undo:
        undo.callback(process.terminate)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise ClusterError("the proxy that slows Valkey down did not start: is Python in reach of this process?")
        in_network(pod, "iptables", "--table", "nat", "--insert", *rule, *redirect)
        undo.callback(in_valkey, service, _END_CONNECTIONS)
        undo.callback(in_network, pod, "iptables", "--table", "nat", "--delete", *rule, *redirect)
        in_valkey(service, _END_CONNECTIONS)
        yield


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
    "is slow": Fault("L2Slow", _slow),
    "is gone": Fault("Progressing", _gone),
}
