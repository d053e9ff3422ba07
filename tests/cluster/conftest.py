"""A cluster on paper: nothing of it is started."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.layout import Cluster


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user with an empty cache and no clusters. The path is short, as sockets need it."""
    with tempfile.TemporaryDirectory(prefix="home-") as name:
        monkeypatch.setenv("XDG_CACHE_HOME", f"{name}/cache")
        monkeypatch.setenv("XDG_STATE_HOME", f"{name}/state")
        yield Path(name)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="c-") as folder:
        yield Cluster("c", 3, Path(folder))
