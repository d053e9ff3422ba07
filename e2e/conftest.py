"""Gives end-to-end tests their cluster: `pytest e2e --cluster=local|kind|existing`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
        yield from _kind(name, keep=keep)
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


def _kind(name: str, *, keep: bool) -> Iterator[Handle]:
    from pytest_kind import KindCluster  # noqa: PLC0415  # it makes a folder, and needs requests and pykube

    kind = KindCluster(f"llmcache-{name}")
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
