"""Builds etcd, Kubernetes and CoreDNS from upstream's own Go modules, once per version."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from e2e.cluster.console import console
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import cache_folder
from e2e.cluster.locks import exclusive
from e2e.cluster.shell import run
from e2e.cluster.versions import MODULES, GoModule

# Go fetches the toolchain that a go.mod asks for since 1.21: https://go.dev/doc/toolchain
_OLDEST_GO = (1, 21)


def ensure(modules: Sequence[GoModule] = MODULES) -> dict[str, Path]:
    """Return the path of every binary of the modules by name, after building those that the cache lacks.

    Raises ClusterError that names the component and its log if a build fails.
    """
    for module in modules:
        if not _folder(module).exists():
            with exclusive(cache_folder() / "bin" / ".lock", "building the cluster's binaries"):
                _build(module)
    return paths(modules)


def built(modules: Sequence[GoModule] = MODULES) -> bool:
    """Whether the cache has every binary of the modules."""
    return all(_folder(module).exists() for module in modules)


def paths(modules: Sequence[GoModule] = MODULES) -> dict[str, Path]:
    """Return where every binary of the modules lies once it is built, by name."""
    return {binary: _folder(module) / binary for module in modules for binary in module.binaries}


def _folder(module: GoModule) -> Path:
    recipe = b"".join(
        [(module.folder / file).read_bytes() for file in ("go.mod", "go.sum")]
        + [_ldflags(module).encode(), *(tag.encode() for tag in module.tags)]
    )
    key = hashlib.sha256(recipe).hexdigest()[:8]
    return cache_folder() / "bin" / f"{module.name}-{module.version}-{key}"


def _ldflags(module: GoModule) -> str:
    # Only Kubernetes has to be told its version; without it the API server says v0.0.0.
    return f"-s -w -X k8s.io/component-base/version.gitVersion={module.version}"


def _build(module: GoModule) -> None:
    target = _folder(module)
    if target.exists():
        return
    _check_go()
    # In the target's own file system, so that the rename at the end is atomic.
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        for binary, package in module.binaries.items():
            _go_build(module, package, scratch / binary)
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _go_build(module: GoModule, package: str, output: Path) -> None:
    log = cache_folder() / "log" / f"build-{output.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # -v names each package as it is compiled: the only progress that go build can show.
    flags = ["-v", "-trimpath", "-ldflags", _ldflags(module), "-tags", ",".join(module.tags)]
    argv = ["nice", "go", "build", *flags, "-o", str(output), package]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        log.open("w") as lines,
        Progress(*columns, console=console, transient=False) as progress,
        subprocess.Popen(
            argv,
            cwd=module.folder,
            env=os.environ | {"CGO_ENABLED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as build,
    ):
        title = f"building {output.name} {module.version}"
        task = progress.add_task(title, total=None)
        for line in build.stdout or ():
            lines.write(line)
            progress.update(task, description=f"{title}  [dim]{line.strip()[:60]}[/dim]")
        progress.update(task, description=title, total=1, completed=1)
    if build.returncode != 0:
        raise ClusterError(f"building {output.name} {module.version} failed: see {log}\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-8:])


def _check_go() -> None:
    if shutil.which("go") is None:
        raise ClusterError("the cluster's binaries are built with Go: install it (https://go.dev/doc/install)")
    version = re.search(r"go(\d+)\.(\d+)", run(["go", "version"]))
    if version is None or (int(version[1]), int(version[2])) < _OLDEST_GO:
        raise ClusterError(f"Go 1.21 or newer is needed, `go version` says {version and version[0]}")
