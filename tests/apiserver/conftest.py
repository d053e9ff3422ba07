"""One real API server for all tests of this folder, and the operator against it."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from e2e.kube import Kube
from tests.apiserver.operator_process import OperatorProcess, install
from tests.apiserver.server import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.apiserver.server import ApiServer


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running API server, empty but for what tests before put there."""
    with running(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture(scope="session")
def operator_kubeconfig(api_server: ApiServer) -> Path:
    """The credentials of the operator's ServiceAccount, once deploy/kustomize/base is installed."""
    return install(api_server)


@pytest.fixture
def kube(api_server: ApiServer, operator_kubeconfig: Path) -> Iterator[Kube]:
    """A namespace of its own, as the administrator sees it."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    kube = Kube(api_server.kubeconfig, namespace)
    kube.run("create", "namespace", namespace)
    yield kube
    kube.run("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


@contextmanager
def operators(kubeconfig: Path, folder: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Start operators; afterwards none is left, and none of them said anything that only a bug says."""
    started: list[OperatorProcess] = []

    def start(*args: str) -> OperatorProcess:
        started.append(OperatorProcess(kubeconfig, folder / f"operator-{len(started)}.log", args))
        return started[-1]

    yield start
    for process in started:
        if not process.ended:
            assert process.stop() == 0, process.log_file.read_text()
        assert "raceback" not in process.log_file.read_text()


@pytest.fixture
def start_operator(operator_kubeconfig: Path, tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Start operators, for tests in which they come and go."""
    with operators(operator_kubeconfig, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def operator(operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator at work for the tests of a module, which don't touch it."""
    with operators(operator_kubeconfig, tmp_path_factory.mktemp("operator")) as start:
        process = start("--scrape-interval", "1")
        process.wait_until_leading()
        yield process
