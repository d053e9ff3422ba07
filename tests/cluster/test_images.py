import io
import json
import tarfile
from pathlib import Path

import pytest

from e2e.cluster import images, pause
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import Cluster, cache_folder

BLOBS = "io.containerd.content.v1.content/blobs/sha256"
LAYERS = "io.containerd.snapshotter.v1.overlayfs/snapshots"
DATABASES = ("io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db")


@pytest.fixture
def template(home: Path) -> Path:
    """A containerd root with one blob and one layer."""
    root = cache_folder() / "images" / "containerd"
    assert root.is_relative_to(home)
    for file in (f"{BLOBS}/abc", f"{LAYERS}/1/fs/bin/sh", *DATABASES):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    return root


@pytest.fixture
def busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "busybox"
    program.write_text("#!/bin/sh\nprintf '%s\\n' busybox ls sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(pause, "BUSYBOX", program)
    return program


def test_a_clone_sees_every_layer_and_owns_only_its_databases(template: Path, cluster: Cluster) -> None:
    images.clone(cluster)

    root = cluster.folder / "containerd" / "root"
    assert (root / BLOBS / "abc").read_text() == f"{BLOBS}/abc"
    assert (root / LAYERS / "1").resolve() == template / LAYERS / "1"
    assert not any((root / database).is_symlink() for database in DATABASES)


def test_removing_an_image_from_a_clone_leaves_the_template(template: Path, cluster: Cluster) -> None:
    images.clone(cluster)
    root = cluster.folder / "containerd" / "root"
    (root / BLOBS / "abc").unlink()
    (root / LAYERS / "1").unlink()
    (root / DATABASES[0]).write_text("changed")

    assert (template / BLOBS / "abc").exists()
    assert (template / LAYERS / "1/fs/bin/sh").exists()
    assert (template / DATABASES[0]).read_text() == DATABASES[0]


@pytest.mark.usefixtures("template")
def test_a_cluster_that_has_a_root_keeps_it(cluster: Cluster) -> None:
    own = cluster.folder / "containerd" / "root" / "own"
    own.parent.mkdir(parents=True)
    own.touch()

    images.clone(cluster)

    assert own.exists()


@pytest.mark.usefixtures("busybox")
def test_the_pause_image_is_the_same_archive_every_time(tmp_path: Path) -> None:
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"

    refs = {pause.write_archive(first), pause.write_archive(second), pause.reference()}

    assert len(refs) == 1
    assert first.read_bytes() == second.read_bytes()
    assert images.names_in(first) == [pause.reference()]


@pytest.mark.usefixtures("busybox")
def test_the_pause_image_holds_every_applet(tmp_path: Path) -> None:
    pause.write_archive(tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as image:
        layer = image.extractfile("layer.tar")
        assert layer is not None
        with tarfile.open(fileobj=io.BytesIO(layer.read())) as files:
            links = {member.name: member.linkname for member in files if member.issym()}

    assert links == {"bin/ls": "busybox", "bin/sh": "busybox"}


def test_a_changed_busybox_changes_the_tag(busybox: Path) -> None:
    before = pause.reference()
    busybox.write_text(busybox.read_text() + "# another\n")

    assert pause.reference() != before


def test_a_dynamic_busybox_is_refused_with_the_package_to_install(busybox: Path) -> None:
    busybox.write_bytes(b"\x7fELF" + b"\0" * 60 + b"/lib64/ld-linux-x86-64.so.2\0")

    with pytest.raises(ClusterError, match="install busybox-static"):
        pause.reference()


def archive_of(path: Path, name: str, content: object) -> Path:
    data = json.dumps(content).encode()
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return path


def test_oci_archives_say_their_names_in_annotations(tmp_path: Path) -> None:
    annotated = {"annotations": {"io.containerd.image.name": "localhost/a:1"}}
    short = {"annotations": {"org.opencontainers.image.ref.name": "localhost/b:1"}}
    index = {"manifests": [annotated, short, {}]}

    assert images.names_in(archive_of(tmp_path / "a.tar", "index.json", index)) == ["localhost/a:1", "localhost/b:1"]


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tar", "README", {})

    with pytest.raises(ClusterError, match=r"a\.tar is neither"):
        images.names_in(archive)


def test_an_archive_is_not_read_when_the_cache_holds_its_images(home: Path) -> None:
    index = cache_folder() / "images" / "index.json"
    index.parent.mkdir(parents=True)
    index.write_text(json.dumps({"localhost/a:1": "sha256:1"}))

    images.import_archive(home / "no-such-file.tar", refs=["localhost/a:1"])

    assert images.available() == {"localhost/a:1": "sha256:1"}
