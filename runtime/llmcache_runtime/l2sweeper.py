"""Keeps room in a volume of KV: LMCache only adds files there, and does not start on a volume that is full.

`llmcache-l2-sweeper` deletes the chunks that nobody used for longest, as far as the volume notes uses, whenever too
little of it is free. LMCache looks for each file anew: one that is gone is a miss, also in the middle of a look-up
(lmcache 0.5.6, distributed/l2_adapters/fs_l2_adapter.py). Several may sweep one volume.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MARGIN = 0.05
"""Of the volume, what a sweep frees beyond what is asked for, so that not every look finds something to do."""
_BATCH = 32
_WRITING_SECONDS = 3600
_log = logging.getLogger("llmcache-l2-sweeper")


def main(argv: Sequence[str] | None = None) -> None:
    """Sweep until SIGTERM, or once. A volume that can't be swept is told, and tried again."""
    logging.basicConfig(level=logging.INFO, format="llmcache-l2-sweeper: %(message)s")
    flags = _parser().parse_args(argv)
    # Process 1 of a container ignores signals that nobody takes.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        try:
            if deleted := sweep(flags.folder, flags.keep_free / 100):
                _log.info("deleted %d files: %.0f %% of the volume is free", deleted, 100 * free(flags.folder))
        except OSError as error:
            _log.warning("%s can't be swept: %s", flags.folder, error)
        if flags.once:
            return
        time.sleep(flags.every)


def free(folder: Path) -> float:
    """Return what part of a folder's volume is free for users other than root: 0.0 to 1.0."""
    told = os.statvfs(folder)
    return told.f_bavail / told.f_blocks if told.f_blocks else 1.0


def sweep(folder: Path, keep_free: float, room: Callable[[Path], float] = free) -> int:
    """Delete what was used longest ago until a part of the volume is free; return the number of files.

    Raises OSError where the folder can't be read. A folder that is not there yet holds nothing.
    """
    if not folder.is_dir() or room(folder) >= keep_free:
        return 0
    deleted, oldest = 0, sorted(_files(folder))
    while oldest and room(folder) < keep_free + MARGIN:
        deleted += sum(_delete(path) for _, path in oldest[:_BATCH])
        oldest = oldest[_BATCH:]
    return deleted


def _files(folder: Path) -> Iterator[tuple[float, Path]]:
    """Yield chunks, and what servers that are gone left half written, with the time of their last use."""
    for path in folder.glob("*.data"):
        with contextlib.suppress(FileNotFoundError):
            yield _used(path), path
    for path in folder.glob(".writing-*/*"):
        with contextlib.suppress(FileNotFoundError):
            if (used := _used(path)) < time.time() - _WRITING_SECONDS:
                yield used, path


def _used(path: Path) -> float:
    told = path.stat()
    return max(told.st_atime, told.st_mtime)


def _delete(path: Path) -> bool:
    """Delete a file, unless somebody else has."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        return True
    return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "llmcache-l2-sweeper",
        description="Deletes the KV in a volume that was used longest ago, so that some of the volume stays free.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, required=True, help="where LMCache keeps its files")
    parser.add_argument("--keep-free", type=float, default=10, metavar="PERCENT", help="of the volume")
    parser.add_argument("--every", type=float, default=10, metavar="SECONDS", help="how often to look")
    parser.add_argument("--once", action="store_true", help="look once, then end")
    return parser


if __name__ == "__main__":
    main()
