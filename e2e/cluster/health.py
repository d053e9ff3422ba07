"""Asks the components whether they work."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable

from e2e.cluster import process
from e2e.cluster.components import Component
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import Cluster


def healthy(cluster: Cluster, component: Component) -> bool:
    """Whether the component's health URL answers 200 within 2 s."""
    trust = ssl.create_default_context(cafile=str(cluster.pki("ca.crt")))
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    try:
        with direct.open(component.health, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait(cluster: Cluster, components: Iterable[Component], *, seconds: float = 90) -> None:
    """Wait until all work. Raises ClusterError that names the component and its log if one ends or stays silent."""
    for component in components:

        def ended(name: str = component.name) -> bool:
            return process.read(cluster.pidfile(name)) is None

        def settled(component: Component = component) -> bool:
            return healthy(cluster, component) or ended(component.name)

        if not process.wait_until(settled, seconds=seconds):
            raise ClusterError(_report(cluster, component, f"does not answer {component.health}"))
        if ended():
            raise ClusterError(_report(cluster, component, "ended"))


def _report(cluster: Cluster, component: Component, what: str) -> str:
    log = cluster.log(component.name)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
    return f"{component.name} of cluster {cluster.name} {what}: see {log}\n{tail}"
