"""Gives end-to-end tests their cluster: `pytest e2e --cluster=local|kind|existing`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_kind import KindCluster

from e2e.cluster import lifecycle, slots
from e2e.cluster.handle import Existing, Handle, KindMade, Local
from e2e.cluster.kubectl import binary
from e2e.cluster.shell import run
from e2e.fixtures import kube, models, operator, refs, service

__all__ = ["cluster", "kube", "models", "operator", "refs", "service"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of cluster; --keep-cluster comes from pytest-kind and counts for local ones too."""
    group = parser.getgroup("cluster")
    group.addoption(
        "--cluster",
        choices=("local", "kind", "existing"),
        default="local",
        help="local: made on this machine without Docker (default); kind: needs Docker; existing: see --context",
    )
    group.addoption("--name", default="test", help="name of the local or kind cluster (default: test)")
    group.addoption(
        "--context",
        help="with --cluster=existing: the current context of your kubeconfig, to show that you mean it",
    )


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    """Provide the cluster of this session; one made for it is taken down again, unless --keep-cluster is given."""
    kind, name = request.config.getoption("cluster"), request.config.getoption("name")
    keep = bool(request.config.getoption("keep_cluster"))
    if kind == "local":
        yield from _local(name, keep=keep)
    elif kind == "kind":
        yield from _kind(request.config, name, keep=keep)
    else:
        yield _existing(request.config.getoption("context"), tmp_path_factory.mktemp("existing"))


def _local(name: str, *, keep: bool) -> Iterator[Handle]:
    keep = keep or slots.find(name) is not None
    lifecycle.up(name)
    try:
        yield Local(name)
    finally:
        if not keep:
            lifecycle.down(name)


def _kind(config: pytest.Config, name: str, *, keep: bool) -> Iterator[Handle]:
    if shutil.which("docker") is None:
        raise pytest.UsageError("--cluster=kind needs Docker; --cluster=local does not")
    # Else pytest-kind 22.11 fetches a kind of 2022, whose Kubernetes 1.25 lacks much of what the CRD uses.
    program = config.getoption("kind_bin") or shutil.which("kind")
    if program is None:
        raise pytest.UsageError("--cluster=kind needs kind on PATH, or --kind-bin=FILE")
    kind = KindCluster(f"llmcache-{name}", image=config.getoption("kind_image"), kind_path=Path(program))
    kind.create()
    try:
        yield KindMade(kind)
    finally:
        if not keep:
            kind.delete()


def _existing(allowed: str | None, folder: Path) -> Handle:
    current = run([binary(), "config", "current-context"]).strip()
    if current != allowed:
        raise pytest.UsageError(
            f"--cluster=existing would use the context {current!r} of your kubeconfig, and the tests create and "
            f"delete in it: say --context={current} if that is what you want"
        )
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(run([binary(), "config", "view", "--minify", "--flatten", "--raw"]))
    return Existing(kubeconfig)
