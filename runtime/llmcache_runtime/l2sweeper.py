"""Keeps room in a volume of KV: LMCache only adds files there, and does not start on a volume that is full.

`llmcache-l2-sweeper` deletes the chunks that nobody used for longest, as far as the volume notes uses, whenever too
little is free of what KV can have: its own files and what is free. What others keep in the volume is none of its
business. LMCache looks for each file anew: one that is gone is a miss, also in the middle of a look-up (lmcache 0.5.6,
distributed/l2_adapters/fs_l2_adapter.py). Several may sweep one volume: they delete in the same order.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MARGIN = 0.05
"""What a sweep frees beyond what is asked for, so that not every look finds something to do."""
_WRITING_SECONDS = 3600.0
_ENOUGH_TO_START = 1 << 20
_REST = 10
"""Looks take a tenth of the time at most: on some volumes, asking for each of 100,000 files takes a minute."""
_log = logging.getLogger("llmcache-l2-sweeper")


class Space(NamedTuple):
    """Bytes of a volume: all of it, and those that users other than root may still take."""

    total: int
    free: int


class File(NamedTuple):
    """A file by the time of its last use, in seconds since the epoch, and the bytes that it takes."""

    used: float
    size: int
    path: str


def main(argv: Sequence[str] | None = None) -> None:
    """Sweep until SIGTERM. A volume that can't be swept is told, and tried again."""
    logging.basicConfig(level=logging.INFO, format="llmcache-l2-sweeper: %(message)s")
    flags = _parser().parse_args(argv)
    if flags.probe:
        sys.exit(0 if _space(flags.folder).free >= _ENOUGH_TO_START else 1)
    # Process 1 of a container ignores signals that nobody takes.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        began = time.monotonic()
        try:
            sweep(flags.folder, flags.keep_free / 100)
        except OSError as error:
            _log.warning("%s can't be swept: %s", flags.folder, error)
        time.sleep(max(flags.every, _REST * (time.monotonic() - began)))


def _space(folder: Path) -> Space:
    """Return what there is of a folder's volume, or of the one that it will be made in."""
    told = os.statvfs(folder if folder.exists() else folder.parent)
    return Space(told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize)


def sweep(folder: Path, keep_free: float, space: Callable[[Path], Space] = _space) -> int:
    """Delete what was used longest ago where less than a part of what KV can have is free; return the bytes freed.

    Raises OSError where the folder can't be read. A folder that is not there yet holds nothing.
    """
    total, free = space(folder)
    # What KV can have is no more than the volume: most looks end here, without one at the files.
    if free >= keep_free * total or not folder.is_dir():
        return 0
    files = sorted(_files(folder))
    room = free + sum(file.size for file in files)
    if free >= keep_free * room:
        return 0
    freed = _delete(files, int((keep_free + MARGIN) * room) - free)
    _log.info("%d MB of chunks deleted, of %d MB that KV can have", freed >> 20, room >> 20)
    return freed


def _delete(files: Sequence[File], wanted: int) -> int:
    """Delete files in their order until so many bytes are free, those that others delete meanwhile included."""
    freed, failed = 0, []
    for file in files:
        if freed >= wanted:
            break
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.path)  # noqa: PTH108 - a Path for each of 100,000 files takes memory
            freed += file.size
        except OSError as error:
            failed.append(error)
    if failed:
        _log.warning("%d files can't be deleted, such as: %s", len(failed), failed[0])
    return freed


def _files(folder: Path) -> Iterator[File]:
    """Yield chunks, and what servers that are gone left half written."""
    now = time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".data"):
                yield from _file(entry)
            elif entry.name.startswith(".writing-") and entry.is_dir():
                with os.scandir(entry.path) as inner:
                    yield from (file for one in inner for file in _file(one) if file.used < now - _WRITING_SECONDS)


def _file(entry: os.DirEntry[str]) -> Iterator[File]:
    with contextlib.suppress(OSError):
        if entry.is_file(follow_symlinks=False):
            told = entry.stat(follow_symlinks=False)
            yield File(max(told.st_atime, told.st_mtime), told.st_blocks * 512, entry.path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "llmcache-l2-sweeper",
        description="Deletes the KV in a volume that was used longest ago, so that there is room for more.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, required=True, help="where LMCache keeps its files")
    parser.add_argument("--keep-free", type=float, default=10, metavar="PERCENT", help="of what KV can have")
    parser.add_argument("--every", type=float, default=10, metavar="SECONDS", help="how often to look, at most")
    parser.add_argument("--probe", action="store_true", help="only say, by the exit status, whether a server can start")
    return parser


if __name__ == "__main__":
    main()
