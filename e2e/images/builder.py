"""Programs that build images: buildah, which needs no daemon and no registry, and Docker."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from e2e.cluster import packages
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import cache_folder
from e2e.cluster.shell import run
from e2e.images.progress import logged
from e2e.images.spec import BASE, IMAGES, Image, ref, staged

_BUILD_SECONDS = 1800
_SAVE_SECONDS = 600
TOOLS = {"buildah": "buildah", "debootstrap": "debootstrap"}
"""Debian package -> the program that shows it is installed."""
# Where this machine says how it reaches the network; a build sees the same, and none of it enters an image.
_HOST_SETTINGS = ("/etc/resolv.conf", "/etc/ssl/certs", "/etc/pip.conf", "/etc/uv")


class Builder(Protocol):
    """What building an image takes. Every method raises ClusterError, which names the image and the log."""

    def has(self, image: str) -> bool:
        """Whether the builder holds the image of this full name."""

    def build(self, image: Image, context: Path) -> None:
        """Build the image from the files in `context` under its full name."""

    def save(self, image: str, archive: Path) -> None:
        """Write the image to a docker-archive."""


class Buildah:
    """Builds with buildah into a store of its own in the user's cache, on a base image made by debootstrap."""

    def __init__(self) -> None:
        packages.ensure(TOOLS)
        self._folder = cache_folder() / "buildah"
        (self._folder / "tmp").mkdir(parents=True, exist_ok=True)

    def has(self, image: str) -> bool:
        """Ask the store."""
        command = [*self._buildah(), "inspect", "--type", "image", image]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    def build(self, image: Image, context: Path) -> None:
        """Build the image, and first its base if that is missing."""
        # A build that was killed leaves its working containers, which may be as large as the image.
        run([*self._buildah(), "rm", "--all"], seconds=_SAVE_SECONDS)
        if not self.has(ref(BASE)):
            self._build_base()
        arguments = {"BASE": ref(BASE), **_parents(image)}
        mounts = [f"--volume={path}:{path}:ro" for path in _HOST_SETTINGS if Path(path).exists()]
        self._bud(image, context, [*mounts, f"--layers={str(image.layers).lower()}", *_build_args(arguments)])
        self._remove_older(image)

    def save(self, image: str, archive: Path) -> None:
        """Write the image uncompressed, which is much faster."""
        logged(
            [*self._buildah(), "push", image, f"docker-archive:{archive}:{image}"],
            f"writing {image}",
            seconds=_SAVE_SECONDS,
            env=self._environment(),
        )

    def _remove_older(self, image: Image) -> None:
        # Clusters have their own copies; steps that the new image shares stay.
        name = ref(image).rpartition(":")[0]
        known = run([*self._buildah(), "images", "--noheading", "--format", "{{.Name}}:{{.Tag}}"], seconds=60).split()
        for older in known:
            if older.startswith(f"{name}:") and older != ref(image):
                run([*self._buildah(), "rmi", older], seconds=_SAVE_SECONDS)

    def _build_base(self) -> None:
        with staged([BASE]) as context:
            script = context / "runtime/images/base/rootfs.sh"
            command = [str(script), str(script.with_name("rootfs.tar"))]
            logged(command, f"debootstrap for {ref(BASE)}", seconds=_BUILD_SECONDS, env=self._environment())
            self._bud(BASE, context, [])

    def _bud(self, image: Image, context: Path, options: Sequence[str]) -> None:
        command = [*self._buildah(), "bud", "--isolation", "chroot", "--network", "host", *options]
        target = ["--tag", ref(image), "--file", str(context / image.dockerfile), str(context)]
        logged([*command, *target], f"building {ref(image)}", seconds=_BUILD_SECONDS, env=self._environment())

    def _buildah(self) -> list[str]:
        store = ["--root", str(self._folder / "store"), "--runroot", str(self._folder / "run")]
        # overlay: vfs copies the whole tree for each layer.
        return ["buildah", *store, "--storage-driver", "overlay"]

    def _environment(self) -> dict[str, str]:
        # buildah and debootstrap write gigabytes of temporary files: on the disk of the cache, not in a small /tmp.
        return {**os.environ, "TMPDIR": str(self._folder / "tmp")}


class Docker:
    """Builds with a Docker daemon, on the base images that the Dockerfiles name.

    Not run by this project's own tests: they run on machines without a daemon.
    """

    def __init__(self) -> None:
        if shutil.which("docker") is None:
            raise ClusterError("`docker` is not installed: use --engine buildah, or install it")

    def has(self, image: str) -> bool:
        """Ask the daemon."""
        command = ["docker", "image", "inspect", image]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    def build(self, image: Image, context: Path) -> None:
        """Build the image; Docker pulls its base."""
        target = ["--tag", ref(image), "--file", str(context / image.dockerfile), str(context)]
        command = ["docker", "build", "--progress", "plain", *_build_args(_parents(image)), *target]
        logged(command, f"building {ref(image)}", seconds=_BUILD_SECONDS)

    def save(self, image: str, archive: Path) -> None:
        """Write the image as Docker exports it."""
        logged(["docker", "save", "--output", str(archive), image], f"writing {image}", seconds=_SAVE_SECONDS)


def _parents(image: Image) -> dict[str, str]:
    return {argument: ref(IMAGES[parent]) for argument, parent in image.parents.items()}


def _build_args(arguments: Mapping[str, str]) -> list[str]:
    return [f"--build-arg={name}={value}" for name, value in arguments.items()]
