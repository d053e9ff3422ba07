"""PodMonitors on a real API server of their own: on the shared one, a new CRD would restart the operators of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.kube import Kube, wait_until
from tests.apiserver.conftest import operators
from tests.apiserver.operator_process import install
from tests.apiserver.server import ApiServer
from tests.apiserver.service import manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.apiserver.operator_process import OperatorProcess

CRD = Path(__file__).parents[2] / "e2e/manifests/podmonitors.yaml"
NAMES = ["chat-cache", "chat-engine", "chat-router"]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that nobody else uses."""
    server = ApiServer(tmp_path_factory.mktemp("optional"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def own_kubeconfig(own_server: ApiServer) -> Path:
    """The operator's credentials for it."""
    return install(own_server)


@pytest.fixture
def start(own_kubeconfig: Path, tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Start operators there."""
    with operators(own_kubeconfig, tmp_path) as started:
        yield started


def test_pod_monitors_come_with_their_kind_and_go_when_nobody_wants_them(
    own_server: ApiServer, start: Callable[..., OperatorProcess]
) -> None:
    kube = Kube(own_server.kubeconfig)

    def monitors() -> list[str]:
        return [monitor["metadata"]["name"] for monitor in kube.items("podmonitors")]

    first = start()
    first.wait_for("optional kinds in this cluster: none")
    kube.apply(manifest())
    wait_until("a child", lambda: kube.get("deployment", "chat-router"), seconds=20, every=0.1)
    assert first.stop() == 0
    kube.apply(CRD.read_text())
    kube.run("wait", "--for=condition=Established", "crd/podmonitors.monitoring.coreos.com", "--timeout=20s")

    second = start()
    second.wait_for("optional kinds in this cluster: PodMonitor")
    second.wait_for("set --scraper-namespace")
    wait_until("PodMonitors", lambda: monitors() == NAMES, seconds=20, every=0.1)
    kube.run("delete", "podmonitor", "chat-engine")
    wait_until("one that was deleted is back", lambda: monitors() == NAMES, seconds=20, every=0.1)
    assert second.stop() == 0

    start("--pod-monitors", "Never")
    wait_until("no PodMonitor is left", lambda: monitors() == [], seconds=20, every=0.1)
