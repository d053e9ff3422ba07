"""Runs other programs, always with a time limit."""

import subprocess
from collections.abc import Sequence

from e2e.cluster.errors import ClusterError


def run(argv: Sequence[str], *, seconds: float = 30, stdin: str | None = None) -> str:
    """Return what the program wrote to stdout.

    Raises ClusterError, with the command and what it said, if it failed, took longer than `seconds`
    or does not exist.
    """
    command = " ".join(argv)
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"`{command}` did not end within {seconds:g} s") from error
    except FileNotFoundError as error:
        raise ClusterError(f"`{argv[0]}` is not installed; `{command}` needs it") from error
    if done.returncode != 0:
        raise ClusterError(f"`{command}` failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout
