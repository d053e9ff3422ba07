"""Runs long programs: a spinner with their last line for people, everything they say in a log file."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.console import console
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import cache_folder

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 10
_TAIL_BYTES = 4000


@contextmanager
def running(
    command: Sequence[str], doing: str, *, seconds: float, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run the command beside the body, with its output in a log of the cache folder; then wait for its end.

    While it is waited for, people see what it does and for how long. Raises ClusterError, with what was being done,
    the last lines and the log's path, if it fails or takes longer than `seconds`. If the body fails, it is ended.
    """
    log = _log(doing)
    begin = time.monotonic()
    # Builds are background work: what runs on the machine meanwhile goes first.
    argv = ["nice", *command]
    with (
        log.open("wb") as out,
        # A group of its own, so that what the program started ends with it.
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, process_group=0) as run,
    ):
        try:
            yield
            _watch(run, doing, log, begin + seconds)
        except BaseException:
            _end(run)
            raise
    if run.returncode != 0:
        raise ClusterError(f"{doing} failed ({run.returncode}); the log is {log} and ends with:\n{_tail(log, 15)}")
    console.print(f"[green]✓[/green] {doing} [dim]{time.monotonic() - begin:.1f} s[/dim]")


def logged(command: Sequence[str], doing: str, *, seconds: float, env: Mapping[str, str] | None = None) -> None:
    """Run the command and wait for its end; otherwise like `running`."""
    with running(command, doing, seconds=seconds, env=env):
        pass


def _watch(run: subprocess.Popen[bytes], doing: str, log: Path, until: float) -> None:
    with console.status(doing) as status:
        while time.monotonic() < until:
            try:
                run.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                status.update(f"{doing} [dim]{_tail(log, 1)[:100]}[/dim]")
            else:
                return
    raise ClusterError(f"{doing} did not end in time; the log is {log} and ends with:\n{_tail(log, 15)}")


def _end(run: subprocess.Popen[bytes]) -> None:
    os.killpg(run.pid, signal.SIGTERM)
    try:
        run.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)


def _log(doing: str) -> Path:
    log = cache_folder() / "images" / "log" / f"{re.sub(r'[^a-zA-Z0-9.-]+', '-', doing)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def _tail(log: Path, lines: int) -> str:
    with log.open("rb") as file:
        file.seek(-min(_TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
        text = file.read().decode(errors="replace")
    # Square brackets would be markup to rich.
    return "\n".join(text.strip().splitlines()[-lines:]).replace("[", r"\[")
