"""Builds what is missing and makes it known to a cluster."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import images as cluster_images
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import cache_folder
from e2e.cluster.locks import exclusive
from e2e.images.builder import Buildah, Builder, Docker
from e2e.images.progress import logged
from e2e.images.spec import Image, changed, ref, refs, select

ENGINES: Mapping[str, type[Buildah | Docker]] = {"buildah": Buildah, "docker": Docker}
_LOAD_SECONDS = 600


def build(*names: str, engine: str = "buildah") -> None:
    """Build the named images, or all, unless the builder or the clusters' cache has them."""
    with exclusive(cache_folder() / "buildah.lock", "building images"):
        for image in select(names):
            if ref(image) not in cluster_images.available():
                _built(ENGINES[engine](), image)


def ensure(name: str, *, engine: str = "buildah") -> dict[str, str]:
    """Build the images that are missing, make them known to the local cluster and return their names by short name."""
    with exclusive(cache_folder() / "buildah.lock", "building images"):
        for image in select(()):
            if ref(image) not in cluster_images.available():
                with _archive(_built(ENGINES[engine](), image), image) as archive:
                    cluster_images.import_archive(archive, refs=[ref(image)])
    cluster_images.sync(name)
    return refs()


def ensure_kind(name: str, *, engine: str = "docker") -> dict[str, str]:
    """Build the images that are missing, load them into the kind cluster and return their names by short name."""
    builder = ENGINES[engine]()
    for image in select(()):
        with _archive(_built(builder, image), image) as archive:
            command = ["kind", "load", "image-archive", str(archive), "--name", name]
            logged(command, f"loading {ref(image)} into kind", seconds=_LOAD_SECONDS)
    return refs()


def _built(builder: Builder, image: Image) -> Builder:
    if not builder.has(ref(image)):
        builder.build(image)
        if changed(image):
            builder.remove(ref(image))
            raise ClusterError(f"files of the image {image.name} changed while it was built: run this again")
    return builder


@contextmanager
def _archive(builder: Builder, image: Image) -> Iterator[Path]:
    # Gone as soon as it is imported: it is as large as the image.
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        archive = Path(folder) / f"{image.name}.tar"
        builder.save(ref(image), archive)
        yield archive
