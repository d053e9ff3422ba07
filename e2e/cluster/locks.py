"""Keeps two runs of this tool from doing the same work at once."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.console import console


@contextmanager
def exclusive(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock file while the body runs; say so if another run holds it and this one has to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"waiting for another run that is {doing} ({path}) …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
