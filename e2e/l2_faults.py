"""What can go wrong with the Valkey of a service, done for real, and undone when the context ends."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.causes.real.node import in_network, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from e2e.kube import Json
    from e2e.services import Service

# Debian's Redis in the place of Valkey; the password is in the container's environment.
CLI = "redis-cli"
DELAY = Path(__file__).with_name("delay.py")
PORT, DELAY_PORT, DELAY_SECONDS = 6379, 16379, 0.1
PAUSED = "llmcache.dev/paused"


@dataclass(frozen=True)
class Fault:
    """A fault, and the reason of the condition L2Ready that has to name it."""

    reason: str
    inject: Callable[[Service], AbstractContextManager[None]]


def in_valkey(service: Service, command: str) -> str:
    """Run a shell command in the pod."""
    return service.kube.run("exec", f"{service.name}-valkey-0", "--", "sh", "-c", command)


def keys(service: Service) -> int:
    """Return how many chunks Valkey holds; the guards' own key has no model in its name."""
    return int(in_valkey(service, f"{CLI} --scan --pattern '*@*' | wc -l"))


def _commands(do: str, undo: str) -> Callable[[Service], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def inject(service: Service) -> Iterator[None]:
        in_valkey(service, do)
        try:
            yield
        finally:
            in_valkey(service, undo)

    return inject


@contextlib.contextmanager
def _gone(service: Service) -> Iterator[None]:
    """Nobody starts it again while the operator leaves the service as it is."""
    valkey = f"{service.name}-valkey"
    service.kube.run("annotate", "llmcs", service.name, f"{PAUSED}=true")
    service.kube.run("scale", "statefulset", valkey, "--replicas=0")
    service.kube.run("delete", "pod", f"{valkey}-0", "--grace-period=0", "--force", "--ignore-not-found")
    try:
        yield
    finally:
        service.kube.run("annotate", "llmcs", service.name, f"{PAUSED}-")
        service.kube.run("rollout", "status", f"statefulset/{valkey}", "--timeout=120s", seconds=125)


@contextlib.contextmanager
def _slow(service: Service) -> Iterator[None]:
    """Lead new connections through a proxy in the network of its pod; the ones that are there end."""
    pod: Json = service.kube.get("pod", f"{service.name}-valkey-0") or {}
    network = f"--net=/proc/{processes(pod)[0]}/ns/net"
    rule = ("PREROUTING", "--protocol", "tcp", "--dport", str(PORT))
    redirect = ("--jump", "REDIRECT", "--to-ports", str(DELAY_PORT))
    proxy = [sys.executable, str(DELAY), str(DELAY_PORT), str(PORT), str(DELAY_SECONDS)]
    with subprocess.Popen(["nsenter", network, *proxy]) as process:
        try:
            in_network(pod, "iptables", "--table", "nat", "--insert", *rule, *redirect)
            in_valkey(service, _END_CONNECTIONS)
            yield
        finally:
            in_network(pod, "iptables", "--table", "nat", "--delete", *rule, *redirect)
            process.terminate()


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
    "is gone": Fault("L2Unreachable", _gone),
}
