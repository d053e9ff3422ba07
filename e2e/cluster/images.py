"""Container images: stored once in the user's cache, seen by every cluster.

The cache holds a *template*: a containerd root into which images are imported and unpacked. A new cluster's root
is a clone of it: symbolic links to the layers, which nothing ever changes (overlayfs writes to the upper folder,
and removing a layer removes the link), and copies of the two small databases. So a 6 GB image costs a new cluster
neither time nor space. A cluster that already runs containers gets later images copied.
"""

import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from e2e.cluster import containerd, pause, process, slots
from e2e.cluster.console import step
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import Cluster, cache_folder
from e2e.cluster.locks import exclusive

# Paths in containerd's root: https://github.com/containerd/containerd/blob/release/1.6/docs/ops.md#base-configuration
_LINKED = (
    Path("io.containerd.content.v1.content/blobs/sha256"),
    Path("io.containerd.snapshotter.v1.overlayfs/snapshots"),
)
_COPIED = (
    Path("io.containerd.metadata.v1.bolt/meta.db"),
    Path("io.containerd.snapshotter.v1.overlayfs/metadata.db"),
)


def available() -> dict[str, str]:
    """Return the digest of each image in the cache, by the image's name."""
    index = _index()
    return dict(json.loads(index.read_text())) if index.exists() else {}


def import_archive(path: Path, *, refs: Sequence[str], replace: bool = False) -> None:
    """Import a docker or OCI archive into the cache, unless it holds all of `refs` already.

    The tag of a ref is expected to follow from the image's content; where it does not, `replace` imports anyway.
    Raises ClusterError if the archive lacks one of them.
    """
    if not replace and available().keys() >= set(refs):
        return
    with _locked(), step(f"importing {', '.join(refs)}"), containerd.storing(_template()) as store:
        store.import_images(path)
        stored = store.images()
        if lacking := set(refs) - stored.keys():
            raise ClusterError(f"{path} does not hold {', '.join(sorted(lacking))}")
        scratch = _index().with_suffix(".new")
        scratch.write_text(json.dumps(stored, indent=2))
        scratch.rename(_index())


def sync(name: str, refs: Iterable[str] | None = None) -> None:
    """Give a running cluster those of `refs`, or of all images in the cache, that it lacks.

    As long as it holds no container, it gets a new clone, which takes a second; else they are copied.
    Raises ClusterError if the cache does not hold one of `refs`, or there is no such cluster.
    """
    cached = available()
    wanted = set(cached if refs is None else refs)
    if unknown := wanted - cached.keys():
        raise ClusterError(f"not in the image cache: {', '.join(sorted(unknown))}; `make images` builds them")
    cluster = slots.get(name)
    node = containerd.Client(cluster.containerd_socket)
    has = node.images()
    lacking = sorted(ref for ref in wanted if has.get(ref) != cached[ref])
    if not lacking:
        return
    with step(f"giving {name} the images {', '.join(lacking)}"):
        if node.containers():
            with _locked(), containerd.storing(_template()) as store:
                store.send_images(lacking, node)
        else:
            _clone_again(cluster, node)


def _clone_again(cluster: Cluster, node: containerd.Client) -> None:
    running = process.read(cluster.pidfile("containerd"))
    if running is None:
        raise ClusterError(f"containerd of cluster {cluster.name} does not run: see {cluster.log('containerd')}")
    process.stop(running, grace=10)
    shutil.rmtree(_root(cluster))
    clone(cluster)
    process.start(
        running.argv,
        netns=cluster.netns,
        folder=cluster.folder,
        log=cluster.log("containerd"),
        pidfile=cluster.pidfile("containerd"),
    )
    if not process.wait_until(node.ready, seconds=30):
        raise ClusterError(f"containerd of cluster {cluster.name} does not answer: see {cluster.log('containerd')}")


def ensure_pause() -> None:
    """Import the pause image if the cache lacks it."""
    if pause.reference() in available():
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "pause.tar"
        import_archive(archive, refs=[pause.write_archive(archive)])


def clone(cluster: Cluster) -> None:
    """Make the cluster's containerd root from the template, unless it has one."""
    root = _root(cluster)
    if root.exists():
        return
    scratch = root.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    with _locked():
        for folder in _LINKED:
            (scratch / folder).mkdir(parents=True)
            for entry in (_template() / folder).iterdir():
                (scratch / folder / entry.name).symlink_to(entry)
        for file in _COPIED:
            (scratch / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_template() / file, scratch / file)
    scratch.rename(root)


def names_in(archive: Path) -> list[str]:
    """Return the image names that a docker archive (manifest.json) or an OCI archive (index.json) holds."""
    with _open(archive) as tar:
        members = tar.getnames()
        if "manifest.json" in members:
            manifest = json.load(_member(tar, "manifest.json"))
            return [name for image in manifest for name in image["RepoTags"] or ()]
        if "index.json" in members:
            index = json.load(_member(tar, "index.json"))
            return [name for image in index["manifests"] if (name := _oci_name(image.get("annotations", {})))]
    raise ClusterError(f"{archive} is neither a docker archive nor an OCI archive")


def _open(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive)
    except (OSError, tarfile.ReadError) as error:
        raise ClusterError(f"{archive} cannot be read as a tar archive: {error}") from error


def _oci_name(annotations: dict[str, str]) -> str | None:
    # containerd writes the first, which is the full name.
    return annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name")


def _member(tar: tarfile.TarFile, name: str) -> tarfile.ExFileObject:
    file = tar.extractfile(name)
    if not isinstance(file, tarfile.ExFileObject):
        raise ClusterError(f"{name} in {tar.name!r} is not a file")
    return file


def _root(cluster: Cluster) -> Path:
    return cluster.folder / "containerd" / "root"


def _template() -> Path:
    return cache_folder() / "images" / "containerd"


def _index() -> Path:
    return cache_folder() / "images" / "index.json"


def _locked() -> AbstractContextManager[None]:
    return exclusive(cache_folder() / "images" / ".lock", "importing images")
