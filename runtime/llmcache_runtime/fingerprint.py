"""The fingerprint of a model: equal for equal files, different for different ones, whatever their times and owners say.

LMCache's keys hold the path of a model and not its weights (vllm's ``model_config.model`` as given, see
lmcache/integration/vllm/lmcache_mp_connector.py), so a path that ends in this fingerprint is what keeps the KV of old
weights from new ones.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Bookkeeping of hubs, git, file systems and Kubernetes' own volumes ("..data"): engines read none of it, and it can
# differ between two downloads of one model.
_IGNORED_NAMES = frozenset({".cache", "lost+found"})
_IGNORED_PREFIXES = (".git", "..")
# Large files are hashed in segments, so that one of 50 GB keeps all threads busy as well as ten of 5 GB.
_SEGMENT_BYTES = 64 << 20
_READ_BYTES = 1 << 20
# More readers than this seldom make network storage faster.
_MOST_THREADS = 16


class UnreadableModelError(Exception):
    """The files are no model, or can't be read. The message says which file, why, and what to do."""


@dataclass(frozen=True, order=True)
class ModelFile:
    """One file as it was when it was listed. `name` is relative to the model's folder; times are ns."""

    name: str
    size: int
    inode: int
    modified: int
    changed: int


def list_files(folder: Path) -> tuple[ModelFile, ...]:
    """List the model's files, sorted by name, through symbolic links as hubs' caches have them.

    Raises UnreadableModelError if the folder is missing or empty, holds no configuration, or a link leads nowhere.
    """
    try:
        if not folder.is_dir():
            raise UnreadableModelError(f"{folder} is not a folder: check the claim and the path of spec.model.uri")
        files = tuple(sorted(_walk(folder, PurePosixPath(), ())))
    except OSError as error:
        raise UnreadableModelError(_explain(error)) from error
    except RecursionError as error:
        raise UnreadableModelError(f"{folder} is nested too deeply to be a model: check spec.model.uri") from error
    if not files:
        raise UnreadableModelError(
            f"{folder} is empty: check the path of spec.model.uri, or copy the model there first"
        )
    # Mistral's own format has params.json instead (vllm/transformers_utils/config.py).
    if not {"config.json", "params.json"} & {file.name for file in files}:
        some = ", ".join(file.name for file in files[:5])
        raise UnreadableModelError(f"{folder} has no config.json, so it holds no model; it has {some}")
    return files


def fingerprint(folder: Path, files: tuple[ModelFile, ...], progress: Callable[[int, int], None]) -> str:
    """Hash the names and the whole content of the files; 64 hexadecimal digits.

    `progress` is called with the bytes done and the bytes in all. Raises UnreadableModelError if a file can't be read.
    """
    segments = [(file, offset) for file in files for offset in range(0, max(file.size, 1), _SEGMENT_BYTES)]
    total = sum(file.size for file in files)
    done = 0
    digest = hashlib.sha256()
    with ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as pool:
        hashed = pool.map(lambda segment: _hash_segment(folder / segment[0].name, segment[1]), segments)
        try:
            for (file, offset), content in zip(segments, hashed, strict=True):
                # A name has no "\0", and a digest has one length: no two models lead to one sequence of bytes.
                digest.update(os.fsencode(f"{file.name}\0{offset}\0") + content)
                done = min(total, done + min(_SEGMENT_BYTES, file.size - offset))
                progress(done, total)
        except OSError as error:
            pool.shutdown(cancel_futures=True)
            raise UnreadableModelError(_explain(error)) from error
    return digest.hexdigest()


def last_change(folder: Path) -> int:
    """Return the newest change time (ctime, ns) of anything in the folder, bookkeeping included.

    Nothing sets a change time back, so ``find -L FOLDER -cnewer FILE`` with this as FILE's modification time names
    what has been changed, replaced or moved there since. It is the storage's own clock, so no two clocks are compared.
    Raises UnreadableModelError.
    """
    try:
        return _newest_change(folder)
    except OSError as error:
        raise UnreadableModelError(_explain(error)) from error


def _newest_change(folder: Path) -> int:
    newest = folder.stat().st_ctime_ns
    walked: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        here = Path(root).stat()
        if (here.st_dev, here.st_ino) in walked:
            # Links among ignored folders may lead in circles.
            folders.clear()
            continue
        walked.add((here.st_dev, here.st_ino))
        for path in (Path(root, name) for name in (*folders, *files)):
            # As find -L does: what a link leads to, or the link if it leads nowhere.
            found = path.stat() if path.exists() else path.lstat()
            newest = max(newest, found.st_ctime_ns)
    return newest


def _walk(root: Path, below: PurePosixPath, above: tuple[tuple[int, int], ...]) -> Iterator[ModelFile]:
    here = (root / below).stat()
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        raise UnreadableModelError(f"{root / below} is a link to a folder above it: remove the link")
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name in _IGNORED_NAMES or entry.name.startswith(_IGNORED_PREFIXES):
                continue
            found = entry.stat()
            if stat.S_ISDIR(found.st_mode):
                yield from _walk(root, below / entry.name, (*above, identity))
            elif stat.S_ISREG(found.st_mode):
                name = str(below / entry.name)
                yield ModelFile(name, found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def _hash_segment(path: Path, offset: int) -> bytes:
    digest = hashlib.sha256()
    left = _SEGMENT_BYTES
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while left and (read := file.read(min(_READ_BYTES, left))):
            digest.update(read)
            left -= len(read)
    return digest.digest()


def _explain(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is missing, or is a link to a file that is missing: copy the whole model"
    if isinstance(error, PermissionError):
        return (
            f"user {os.geteuid()} may not read {error.filename}: make the files readable for all, "
            "or set fsGroup in spec.engine.template"
        )
    return f"can't read {error.filename or 'the model'}: {error.strerror}"
