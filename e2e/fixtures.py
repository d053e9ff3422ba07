"""Fixtures of the tests that need the operator: installed once, with all images and models in place."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from e2e import images
from e2e.install import DEPLOYMENT, NAMESPACE, install
from e2e.kube import Kube, wait_until
from e2e.models import provide_models
from e2e.services import Service, manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.cluster.handle import Handle

OPERATOR_ARGS = ("--window", "60", "--scrape-interval", "3", "--status-interval", "3")


@pytest.fixture(scope="session")
def refs(cluster: Handle, request: pytest.FixtureRequest) -> dict[str, str]:
    """Build and load all images."""
    if cluster.kind == "local":
        return images.ensure(request.config.getoption("name"))
    names = images.refs()
    cluster.load_images(list(names.values()))
    return names


@pytest.fixture(scope="session")
def operator(cluster: Handle, refs: dict[str, str]) -> Iterator[None]:
    """Install CRD and operator. Whatever tests do to it, its log must not end up with a traceback."""
    install(cluster.kubeconfig, refs, OPERATOR_ARGS)
    yield
    log = Kube(cluster.kubeconfig, NAMESPACE).run("logs", f"deployment/{DEPLOYMENT}", "--tail=-1")
    assert log
    assert "Traceback" not in log


@pytest.fixture(scope="module")
def kube(cluster: Handle, operator: None) -> Iterator[Kube]:  # noqa: ARG001
    """Provide a namespace of one's own, deleted with all that is in it."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    Kube(cluster.kubeconfig).run("create", "namespace", namespace)
    try:
        yield Kube(cluster.kubeconfig, namespace)
    finally:
        _delete(Kube(cluster.kubeconfig, namespace))


def _delete(kube: Kube) -> None:
    kube.run("delete", "llmcs", "--all", "--timeout=30s", seconds=35)
    _end_pods(kube)
    kube.run("delete", "namespace", kube.namespace, "--timeout=150s", seconds=155)


def _end_pods(kube: Kube, selector: str = "") -> None:
    """End pods whose service is deleted, at once: there is nobody left to drain for.

    Only once nobody makes new ones: an engine that is asked to end while it starts takes its whole grace period.
    """
    wait_until("no owner of pods is left", lambda: not kube.items("replicasets,statefulsets", selector), seconds=90)
    which = ["-l", selector] if selector else ["--all"]
    kube.run("delete", "pods", *which, "--grace-period=0", "--force", seconds=60)


@pytest.fixture(scope="module")
def models(kube: Kube, refs: dict[str, str]) -> None:
    """Put the test models into the claim `models` of the module's namespace."""
    provide_models(kube, refs)


@pytest.fixture
def service(kube: Kube) -> Iterator[Callable[..., Service]]:
    """Make services that are deleted, with their pods, when the test ends."""
    made: list[Service] = []

    def make(name: str, **parts: object) -> Service:
        kube.apply(manifest(name, **parts))
        made.append(Service(kube, name))
        return made[-1]

    yield make
    for one in made:
        kube.run("delete", "llmcs", one.name, "--ignore-not-found")
        _end_pods(kube, f"llmcache.dev/service={one.name}")
