"""A volume of KV that is swept."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from llmcache_runtime import l2sweeper
from llmcache_runtime.l2sweeper import free, main, sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CAPACITY = 200
NOW = time.time()


def room(folder: Path) -> float:
    """A volume that holds 200 files."""
    return 1 - sum(path.is_file() for path in folder.rglob("*")) / CAPACITY


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Put a file that was last used some seconds ago into the volume."""

    def made(name: str, age: float, *, written: float | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (NOW - age, NOW - (age if written is None else written)))
        return path

    return made


def test_what_was_used_longest_ago_goes_until_there_is_room(tmp_path: Path, put: Callable[..., Path]) -> None:
    files = [put(f"{at}.data", age=10 * (200 - at)) for at in range(190)]

    deleted = sweep(tmp_path, 0.1, room)

    assert deleted == 32, "in steps, so that what others delete counts"
    assert [path.exists() for path in files] == [False] * 32 + [True] * 158
    assert sweep(tmp_path, 0.1, room) == 0


def test_a_chunk_that_was_read_of_late_stays(tmp_path: Path, put: Callable[..., Path]) -> None:
    read = put("read.data", age=1, written=90_000)
    old = [put(f"{at}.data", age=50_000) for at in range(198)]

    sweep(tmp_path, 0.1, room)

    assert read.exists()
    assert sum(path.exists() for path in old) < 198


def test_a_volume_with_room_is_left_alone(tmp_path: Path, put: Callable[..., Path]) -> None:
    kept = put("a.data", age=10**6)

    assert sweep(tmp_path, 0.1, room) == 0
    assert kept.exists()


def test_what_a_server_is_writing_and_what_is_no_kv_stays(tmp_path: Path, put: Callable[..., Path]) -> None:
    leftover = put(".writing-gone/b.data", age=7200)
    writing, other = put(".writing-a/a.data", age=60), put("notes.txt", age=10**6)

    sweep(tmp_path, 1.0, room)

    assert [path.exists() for path in (leftover, writing, other)] == [False, True, True]
    assert writing.parent.is_dir()


def test_what_others_delete_meanwhile_is_theirs(
    tmp_path: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [put(f"{at}.data", age=1000 - at) for at in range(199)]
    found = sorted(l2sweeper._files(tmp_path))
    monkeypatch.setattr(l2sweeper, "_files", lambda _: iter(found))
    for path in files[:150]:
        path.unlink()

    assert sweep(tmp_path, 1.0, room) == 199 - 150


def test_a_folder_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none", 1.0, room) == 0
    assert 0 < free(tmp_path) <= 1


def test_one_look_ends_and_what_can_not_be_swept_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise OSError("stale handle")

    monkeypatch.setattr(l2sweeper, "sweep", broken)
    with caplog.at_level("WARNING"):
        main(["--folder", str(tmp_path), "--once"])

    assert "can't be swept: stale handle" in caplog.text
