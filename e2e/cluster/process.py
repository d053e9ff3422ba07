"""Starts and ends the processes of a cluster, and never touches another's.

A process is known by its id *and* the moment it started, because ids are used again. Everything started here
carries a variable in its environment that names the cluster's folder; children (containerd's shims) inherit it.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError

MARK = "LLMCACHE_CLUSTER_FOLDER"


@dataclass(frozen=True)
class Identity:
    """One process for ever: its id, its start in clock ticks since boot (proc(5), stat field 22), the boot."""

    pid: int
    started: int
    boot: str


def identify(pid: int) -> Identity | None:
    """Return who has this id now; None if nobody has, or only a zombie that waits for its parent."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        # The second field is the command's name in brackets and may hold spaces and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in {"Z", "X"}:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Identity(pid, int(fields[19]), boot)


@dataclass(frozen=True)
class Running:
    """What a pidfile says: the process, and the command line it was started with."""

    identity: Identity
    argv: tuple[str, ...]

    def alive(self) -> bool:
        """Whether that very process still runs."""
        return identify(self.identity.pid) == self.identity


def read(pidfile: Path) -> Running | None:
    """Return the process that the pidfile names, if it still runs."""
    try:
        record = json.loads(pidfile.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    running = Running(Identity(**record["identity"]), tuple(record["argv"]))
    return running if running.alive() else None


def start(argv: Sequence[str], *, netns: Path, folder: Path, log: Path, pidfile: Path) -> Running:
    """Start a program in a session of its own, inside the network namespace, with `folder` as its mark.

    nsenter and env replace themselves by the program, so the id that the pidfile gets is the program's.
    """
    command = ["nsenter", f"--net={netns}", "--", "env", f"--chdir={folder}", *argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    pidfile.parent.mkdir(parents=True, exist_ok=True)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawnp(
        command[0],
        command,
        os.environ | {MARK: str(folder)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    identity = identify(pid)
    if identity is None:
        raise ClusterError(f"{argv[0]} ended at once: see {log}")
    running = Running(identity, tuple(argv))
    pidfile.write_text(json.dumps(asdict(running)))
    return running


def stop(running: Running, *, grace: float) -> None:
    """End a process and wait until it is gone: SIGTERM, and SIGKILL if it is still there after `grace` seconds."""
    if grace > 0:
        _signal(running.identity, signal.SIGTERM)
        if wait_until(lambda: not running.alive(), seconds=grace):
            return
    _signal(running.identity, signal.SIGKILL)
    if not wait_until(lambda: not running.alive(), seconds=30):
        raise ClusterError(f"process {running.identity.pid} ({running.argv[0]}) survives SIGKILL")


def marked(folder: Path) -> Iterator[Identity]:
    """Every living process that carries the mark of this cluster's folder."""
    mark = f"{MARK}={folder}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0") and (identity := identify(int(entry.name))):
            yield identity


def kill_marked(folder: Path) -> None:
    """SIGKILL every process with the mark, and those that they start meanwhile, until none is left."""

    def none_left() -> bool:
        left = [identity for identity in marked(folder) if identity.pid != os.getpid()]
        for identity in left:
            _signal(identity, signal.SIGKILL)
        return not left

    if not wait_until(none_left, seconds=30):
        raise ClusterError(f"processes marked {MARK}={folder} survive SIGKILL")


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Ask again every 50 ms; False if the condition did not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _signal(identity: Identity, number: signal.Signals) -> None:
    # A pidfd keeps the id from being given to another process between the check and the signal.
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(identity.pid)
        try:
            if identify(identity.pid) == identity:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
