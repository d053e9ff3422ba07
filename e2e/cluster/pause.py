"""The pause image: Debian's static busybox and nothing else, written as a docker-archive by Python alone.

It holds each pod's namespaces, empties the volumes between two claims, and serves tests as a small Linux
(`sh`, `nslookup`, `httpd`, `wget` by address). It runs as user 65532 and ends at once on SIGTERM.
"""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.packages import BUSYBOX
from e2e.cluster.shell import run

_REPOSITORY = "localhost/llmcache/pause"
# `wait` is interrupted by the signal; a bare `sleep` as process 1 would ignore it.
_COMMAND = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; sleep 2147483647 & wait"]


def reference() -> str:
    """Return the image's name; its tag follows from its content."""
    return _reference(_config(_layer()))


def write_archive(path: Path) -> str:
    """Write the image as a docker-archive and return its name."""
    layer = _layer()
    config = _config(layer)
    manifest = [{"Config": "config.json", "RepoTags": [_reference(config)], "Layers": ["layer.tar"]}]
    files = {"config.json": config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            _add(archive, name, content, 0o644)
    return _reference(config)


def _reference(config: bytes) -> str:
    return f"{_REPOSITORY}:{hashlib.sha256(config).hexdigest()[:12]}"


def _layer() -> bytes:
    binary = BUSYBOX.read_bytes()
    # A dynamic program names its loader (PT_INTERP) near the file's beginning; there is none in an empty image.
    if b"/ld-linux" in binary[:8192]:
        raise ClusterError(f"{BUSYBOX} is linked dynamically: install busybox-static instead of busybox")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        _add_folder(layer, "bin", 0o755)
        _add_folder(layer, "tmp", 0o1777)
        _add(layer, "bin/busybox", binary, 0o755)
        for applet in sorted(set(run([str(BUSYBOX), "--list"]).split()) - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(link)
    return buffer.getvalue()


def _config(layer: bytes) -> bytes:
    image = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"User": "65532:65532", "Env": ["PATH=/bin"], "Cmd": _COMMAND, "WorkingDir": "/tmp"},  # noqa: S108
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    return json.dumps(image, sort_keys=True).encode()


def _architecture() -> str:
    # Go's names, which OCI images use.
    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _add_folder(archive: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)
