"""What is mounted, and how to unmount all of a folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.shell import run


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5))."""

    path: Path
    kind: str
    """File system type, such as `overlay`."""


def mounted() -> list[Mount]:
    """All mounts that this process sees, oldest first."""
    return [_parse(line) for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def unmount_below(folder: Path) -> None:
    """Unmount everything at or below the folder, the newest first."""
    paths = [mount.path for mount in mounted() if mount.path.is_relative_to(folder)]
    for path in reversed(paths):
        # Lazy: a process of another mount namespace may still hold a copy for a moment.
        run(["umount", "--lazy", str(path)])


def _parse(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    # Blanks and backslashes in paths are written as octal numbers.
    path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
    return Mount(Path(path), after.split()[0])
