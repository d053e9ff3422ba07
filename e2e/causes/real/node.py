"""What only the node can do to a pod: rules in its network, signals to its processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.cluster.shell import run

if TYPE_CHECKING:
    import signal

    from e2e.kube import Json

PROC = Path("/proc")
_ROOT = ("dev", "eth0", "root")


def processes(pod: Json) -> list[int]:
    """Return the processes of a pod on this machine, oldest first; raises LookupError where it has none."""
    mark = f"pod{pod['metadata']['uid']}"
    found = [int(path.name) for path in PROC.iterdir() if path.name.isdecimal() and mark in _cgroups(path)]
    if not found:
        raise LookupError(
            f"pod {pod['metadata']['name']} has no processes on this machine: is the cluster a local one?"
        )
    return sorted(found)


def in_network(pod: Json, *argv: str) -> None:
    """Run a program in a pod's network namespace."""
    run(["nsenter", f"--net=/proc/{processes(pod)[0]}/ns/net", *argv], seconds=20)


def limit_rate(pod: Json, rate: str) -> None:
    """Limit what leaves a pod, in the words of `tc`."""
    in_network(pod, "tc", "qdisc", "replace", *_ROOT, "tbf", "rate", rate, "burst", "64kb", "latency", "400ms")


def lift_limit(pod: Json) -> None:
    """Let it send as fast as ever."""
    in_network(pod, "tc", "qdisc", "del", *_ROOT)


def send(pod: Json, program: str, number: signal.Signals) -> None:
    """Send a signal to a pod's processes whose command line holds `program`."""
    for process in processes(pod):
        if program in _command(process):
            os.kill(process, number)


def _cgroups(process: Path) -> str:
    try:
        return (process / "cgroup").read_text()
    except (OSError, ProcessLookupError):  # it has ended meanwhile
        return ""


def _command(process: int) -> str:
    try:
        return (PROC / str(process) / "cmdline").read_text().replace("\0", " ")
    except (OSError, ProcessLookupError):
        return ""
