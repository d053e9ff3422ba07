"""What each image is made of, and the name that follows from it."""

import hashlib
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import cache_folder

ROOT = Path(__file__).parents[2]
REPOSITORY = "localhost/llmcache"
_CODE = ("pyproject.toml", "LICENSE", "operator/llmcache_operator", "runtime/llmcache_runtime")


@dataclass(frozen=True, eq=False)
class Image:
    """One image. Its tag changes if, and only if, something that it is made of changes."""

    name: str
    dockerfile: str
    # Files and folders below the repository's root that the Dockerfile copies.
    inputs: tuple[str, ...]
    # Build argument -> the image of this repository that it names.
    parents: Mapping[str, str] = field(default_factory=dict)
    # Whether the layer of each step is kept for the next build: seconds instead of minutes where code changes often,
    # gigabytes for nothing elsewhere.
    layers: bool = False


BASE = Image("base", "runtime/images/base/Dockerfile", ("runtime/images/base",))
IMAGES: Mapping[str, Image] = {
    image.name: image
    for image in (
        Image(
            "operator",
            "operator/Dockerfile",
            ("requirements/build.txt", "requirements/operator.txt", *_CODE),
            layers=True,
        ),
        Image(
            "router", "runtime/images/router/Dockerfile", ("requirements/build.txt", "requirements/router.txt", *_CODE)
        ),
        Image("valkey", "runtime/images/valkey/Dockerfile", ("runtime/images/valkey",)),
        Image(
            "engine-cpu",
            "runtime/images/engine-cpu/Dockerfile",
            ("requirements/build.txt", "requirements/engine-cpu.txt", "runtime/images/engine-cpu"),
        ),
        Image(
            "models",
            "runtime/images/models/Dockerfile",
            ("requirements/build.txt", "requirements/models.txt", "runtime/images/models"),
            parents={"ENGINE": "engine-cpu"},
        ),
    )
}


def refs() -> dict[str, str]:
    """Return the full name of each image that is deployed, by its short name."""
    return {name: ref(image) for name, image in IMAGES.items()}


def select(names: tuple[str, ...]) -> tuple[Image, ...]:
    """Return the images of these names, all if none is given, each after those it is built from.

    Raises ClusterError if there is no image of a name.
    """
    if unknown := set(names) - IMAGES.keys():
        raise ClusterError(f"no image {', '.join(sorted(unknown))}: choose from {', '.join(IMAGES)}")
    return tuple(image for name, image in IMAGES.items() if not names or name in names)


@cache
def ref(image: Image) -> str:
    """Return the image's full name; its tag follows from what the image is made of.

    Fixed for the life of the process: what was built is what is deployed, even if a file changes meanwhile.
    """
    return f"{REPOSITORY}/{image.name}:{_digest(image, ROOT)}"


def scratch_folder() -> Path:
    """Return the folder of what lives for one build: on the cache's disk, since archives take gigabytes."""
    folder = cache_folder() / "images" / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def staged(images: Collection[Image]) -> Iterator[Path]:
    """Copy what the images are made of into a folder to build from, so that nobody's edits enter a build that runs.

    Raises ClusterError if a file is no longer what `ref` saw.
    """
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
        context = Path(folder)
        for file in {file for image in images for file in _files(image, ROOT)}:
            (context / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, context / file)
        for image in images:
            if not ref(image).endswith(_digest(image, context)):
                raise ClusterError(f"files of the image {image.name} have just changed: run this again")
        yield context


def _digest(image: Image, root: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(_files(image, root)):
        content = hashlib.sha256((root / file).read_bytes()).hexdigest()
        digest.update(f"{file} {content}\n".encode())
    parents = [IMAGES[parent] for parent in image.parents.values()]
    for parent in parents if image is BASE else (BASE, *parents):
        digest.update(f"{ref(parent)}\n".encode())
    return digest.hexdigest()[:12]


def _files(image: Image, root: Path) -> set[Path]:
    files: set[Path] = set()
    for entry in (root / path for path in (image.dockerfile, *image.inputs)):
        found = entry.rglob("*") if entry.is_dir() else (entry,)
        files.update(file.relative_to(root) for file in found if file.is_file() and "__pycache__" not in file.parts)
    return files
