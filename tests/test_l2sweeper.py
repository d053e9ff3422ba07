"""A volume of KV that is swept."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from llmcache_runtime import l2sweeper
from llmcache_runtime.l2sweeper import Space, main, sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Put = Callable[..., Path]

CHUNK = 64 * 1024
NOW = time.time()


def volume(chunks: int, others: int = 0) -> Callable[[Path], Space]:
    """A volume that holds so many chunks, some of which are none of ours."""

    def space(folder: Path) -> Space:
        taken = sum(path.is_file() for path in folder.rglob("*"))
        return Space(chunks * CHUNK, (chunks - others - taken) * CHUNK)

    return space


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Put a file of a chunk that was last used some seconds ago into the volume."""

    def made(name: str, age: float, *, written: float | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(CHUNK))
        os.utime(path, (NOW - age, NOW - (age if written is None else written)))
        return path

    return made


def test_what_was_used_longest_ago_goes_until_there_is_room(tmp_path: Path, put: Put) -> None:
    files = [put(f"{at}.data", age=10 * (100 - at)) for at in range(95)]

    sweep(tmp_path, 0.1, volume(100))

    assert [path.exists() for path in files] == [False] * 10 + [True] * 85
    assert sweep(tmp_path, 0.1, volume(100)) == 0


def test_a_chunk_that_was_read_of_late_stays(tmp_path: Path, put: Put) -> None:
    read = put("read.data", age=1, written=90_000)
    old = [put(f"{at}.data", age=50_000) for at in range(98)]

    sweep(tmp_path, 0.1, volume(100))

    assert read.exists()
    assert sum(path.exists() for path in old) == 98 - 14


@pytest.mark.parametrize(("ours", "left"), [(40, 40), (95, 85)])
def test_what_others_keep_in_the_volume_costs_no_chunk_that_there_is_room_for(
    tmp_path: Path, put: Put, ours: int, left: int
) -> None:
    files = [put(f"{at}.data", age=1000 - at) for at in range(ours)]

    sweep(tmp_path, 0.1, volume(2000, others=1900))

    assert sum(path.exists() for path in files) == left


def test_a_volume_with_room_is_left_alone(tmp_path: Path, put: Put) -> None:
    kept = put("a.data", age=10**6)

    assert sweep(tmp_path, 0.1, volume(100)) == 0
    assert kept.exists()


def test_what_a_server_is_writing_and_what_is_no_kv_stays(tmp_path: Path, put: Put) -> None:
    leftover = put(".writing-gone/b.data", age=7200)
    writing, other = put(".writing-a/a.data", age=60), put("notes.txt", age=10**6)

    sweep(tmp_path, 1.0, volume(3))

    assert [path.exists() for path in (leftover, writing, other)] == [False, True, True]
    assert writing.parent.is_dir()


def test_what_others_delete_meanwhile_counts(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [put(f"{at}.data", age=1000 - at) for at in range(95)]
    found, space = sorted(l2sweeper._files(tmp_path)), volume(100)(tmp_path)
    monkeypatch.setattr(l2sweeper, "_files", lambda _: iter(found))
    for path in files[:8]:
        path.unlink()

    sweep(tmp_path, 0.1, lambda _: space)

    assert [path.exists() for path in files] == [False] * 10 + [True] * 85


def test_what_can_not_be_deleted_is_told_and_the_next_goes(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder.data").mkdir()
    files = [put(f"{at}.data", age=1000 - at) for at in range(95)]
    unlink = os.unlink

    def refused(path: str) -> None:
        if path == str(files[0]):
            raise PermissionError("not yours")
        unlink(path)

    monkeypatch.setattr(os, "unlink", refused)
    with caplog.at_level("WARNING"):
        sweep(tmp_path, 0.1, volume(100))

    assert "1 files can't be deleted, such as: not yours" in caplog.text
    assert [path.exists() for path in files] == [True] + [False] * 10 + [True] * 84


def test_a_folder_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none", 1.0) == 0


@pytest.mark.parametrize(("free", "status"), [(0, 1), (4 << 20, 0)])
def test_a_probe_says_whether_a_server_can_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: int
) -> None:
    monkeypatch.setattr(l2sweeper, "_space", lambda _: Space(1 << 30, free))

    with pytest.raises(SystemExit) as ended:
        main(["--folder", str(tmp_path), "--probe"])

    assert ended.value.code == status


def test_looks_are_taken_again_and_what_goes_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []

    def broken(*_: object) -> int:
        raise OSError("stale handle")

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(l2sweeper, "sweep", broken)
    monkeypatch.setattr(time, "sleep", wait)
    with caplog.at_level("WARNING"), pytest.raises(KeyboardInterrupt):
        main(["--folder", str(tmp_path), "--every", "7"])

    assert caplog.text.count("can't be swept: stale handle") == 2
    assert waits == [7, 7]
