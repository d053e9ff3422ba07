"""Builds what is missing and makes it known to a cluster."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import images as cluster_images
from e2e.cluster.layout import cache_folder
from e2e.cluster.locks import exclusive
from e2e.images.builder import Buildah, Builder, Docker
from e2e.images.progress import logged
from e2e.images.spec import IMAGES, Image, ref, refs, scratch_folder, select, staged

ENGINES: Mapping[str, type[Buildah | Docker]] = {"buildah": Buildah, "docker": Docker}
_LOAD_SECONDS = 600


def build(*names: str, engine: str = "buildah") -> None:
    """Build the named images, or all, unless the builder or the clusters' cache has them."""
    with _lacking(select(names)) as (images, context):
        for image in images:
            _build(ENGINES[engine](), image, context)


def stock(*, engine: str = "buildah") -> None:
    """Build the images that are missing and put them into the cache that all local clusters share."""
    with _lacking(select(())) as (images, context):
        for image in images:
            builder = ENGINES[engine]()
            _build(builder, image, context)
            with _archive(builder, image) as archive:
                cluster_images.import_archive(archive, refs=[ref(image)])


def ensure(name: str, *, engine: str = "buildah") -> dict[str, str]:
    """Build the images that are missing, make them known to the local cluster and return their names by short name."""
    stock(engine=engine)
    cluster_images.sync(name, refs().values())
    return refs()


def ensure_kind(name: str, *, engine: str = "docker") -> dict[str, str]:
    """Build the images that are missing, load them into the kind cluster and return their names by short name."""
    builder = ENGINES[engine]()
    with _alone(), staged(IMAGES.values()) as context:
        for image in IMAGES.values():
            _build(builder, image, context)
            with _archive(builder, image) as archive:
                command = ["kind", "load", "image-archive", str(archive), "--name", name]
                logged(command, f"loading {ref(image)} into kind", seconds=_LOAD_SECONDS)
    return refs()


def lacking(images: Sequence[Image] = select(())) -> list[Image]:
    """Return those of the images, or of all, that the clusters' cache lacks."""
    known = cluster_images.available()
    return [image for image in images if ref(image) not in known]


@contextmanager
def _lacking(images: Sequence[Image]) -> Iterator[tuple[Sequence[Image], Path]]:
    with _alone():
        wanted = lacking(images)
        with staged(IMAGES.values() if wanted else ()) as context:
            yield wanted, context


@contextmanager
def _alone() -> Iterator[None]:
    with exclusive(cache_folder() / "images" / "build.lock", "building images"):
        # What a run that was killed left there.
        shutil.rmtree(scratch_folder())
        yield


def _build(builder: Builder, image: Image, context: Path) -> None:
    if not builder.has(ref(image)):
        # The cluster may know a parent that the builder no longer has.
        for parent in image.parents.values():
            _build(builder, IMAGES[parent], context)
        builder.build(image, context)


@contextmanager
def _archive(builder: Builder, image: Image) -> Iterator[Path]:
    # Gone as soon as it is imported: it is as large as the image.
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
        archive = Path(folder) / f"{image.name}.tar"
        builder.save(ref(image), archive)
        yield archive
