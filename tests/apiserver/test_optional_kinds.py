"""Kinds of other people, on a real API server of their own: on a shared one, a CRD restarts the operators of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.kube import Kube, condition, wait_until
from tests.apiserver.conftest import operators
from tests.apiserver.operator_process import install
from tests.apiserver.server import running
from tests.apiserver.service import manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.apiserver.operator_process import OperatorProcess
    from tests.apiserver.server import ApiServer

MANIFESTS = Path(__file__).parents[2] / "e2e/manifests"
CRD = MANIFESTS / "podmonitors.yaml"
POOLS = MANIFESTS / "inferencepools.yaml"
NAMES = ["chat-cache", "chat-engine", "chat-router"]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that nobody else uses."""
    with running(tmp_path_factory.mktemp("optional")) as server:
        yield server


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


def test_an_inference_pool_comes_with_its_kind_and_goes_with_the_picker(
    own_server: ApiServer, start: Callable[..., OperatorProcess]
) -> None:
    kube = Kube(own_server.kubeconfig)
    behind = manifest(router={"type": "EndpointPicker"}) | {"metadata": {"name": "behind"}}

    def message() -> str:
        return str(condition(kube.get("llmcs", "behind"), "RouterReady").get("message", ""))

    kube.apply(behind)
    first = start()
    wait_until("a status", message, seconds=20, every=0.1)
    assert "url" not in (kube.get("llmcs", "behind") or {})["status"]
    assert first.stop() == 0
    kube.apply(POOLS.read_text())
    kube.run("wait", "--for=condition=Established", "crd/inferencepools.inference.networking.k8s.io", "--timeout=20s")

    second = start()
    second.wait_for("InferencePool")
    pool = wait_until("the pool", lambda: kube.get("inferencepool", "behind-engine"), seconds=20, every=0.1)
    assert (
        pool["spec"]["endpointPickerRef"] | {"name": "behind-router", "port": {"number": 9002}}
        == (pool["spec"]["endpointPickerRef"])
    )
    [port] = (kube.get("service", "behind-router") or {})["spec"]["ports"]
    assert (port["port"], port["appProtocol"]) == (9002, "http2")

    kube.apply(behind | {"spec": behind["spec"] | {"router": {"type": "Proxy"}}})
    wait_until("no pool is left", lambda: kube.items("inferencepools") == [], seconds=20, every=0.1)
    wait_until("a URL", lambda: (kube.get("llmcs", "behind") or {})["status"].get("url"), seconds=20, every=0.1)
    [port] = (kube.get("service", "behind-router") or {})["spec"]["ports"]
    assert (port["name"], port["port"]) == ("http", 80)
    assert second.stop() == 0
    kube.run("delete", "llmcs", "behind")
    kube.run("delete", "crd", "inferencepools.inference.networking.k8s.io")
