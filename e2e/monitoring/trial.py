"""The whole of it, once, for real: the quickstart on a real cluster, chats, and a Prometheus that scrapes everything.

What it scrapes comes from the PodMonitors in the cluster. Prometheus runs on the host, from where pods are routable.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.table import Table

from e2e.cluster.console import console, step
from e2e.cluster.errors import ClusterError
from e2e.demo.__main__ import OPERATOR_ARGS, QUICKSTART, START_SECONDS
from e2e.install import NAMESPACE, ROOT
from e2e.kube import Kube, condition, wait_until
from e2e.monitoring import load, promtool, scrape
from e2e.monitoring.draw import Moment, draw
from e2e.monitoring.server import prometheus
from e2e.stand import bring_up

if TYPE_CHECKING:
    from e2e.cluster.layout import Cluster
    from e2e.monitoring.query import Prometheus

KIND = ROOT / "e2e/manifests/podmonitors.yaml"
OPERATOR_MONITOR = ROOT / "deploy/monitoring/podmonitor.yaml"
PICTURE = ROOT / "operator/docs/img/dashboard.png"
SERVICE = yaml.safe_load(QUICKSTART.read_text())
NAME, MODEL = SERVICE["metadata"]["name"], SERVICE["spec"]["model"]["servedName"]
PARTS = {"engine", "cache-server", "router", "operator"}
EVERY = 5
"""Seconds between two scrapes."""


def run(name: str, seconds: float) -> None:
    """Bring it up, chat for so many seconds, check targets and rules, and draw the dashboard.

    Raises ClusterError or TimeoutError that says what is not as it should be.
    """
    stand = bring_up(name, OPERATOR_ARGS)
    cluster, kube = stand.cluster, stand.kube
    _apply(kube)
    monitors = _monitors(cluster, kube)
    with tempfile.TemporaryDirectory(prefix="prometheus-") as scratch:
        folder = Path(scratch)
        rules = promtool.write_rules(folder / "rules.yaml")
        config = scrape.config(monitors, cluster.kubeconfig, rules, every=EVERY)
        with prometheus(config, folder) as server:
            with step("Prometheus scrapes every part"):
                wait_until("every part is scraped", lambda: _parts(server) == PARTS, seconds=60)
            begin = time.time()
            with step(f"chats for {seconds / 60:g} minutes"):
                found = load.chat(_router(kube), MODEL, seconds)
            console.print(f"{found.answered} questions answered, {found.failed} not")
            with step(f"drawing {PICTURE.relative_to(ROOT)}"):
                PICTURE.parent.mkdir(exist_ok=True)
                draw(server, Moment(kube.namespace, NAME, begin, time.time()), PICTURE)
            _report(server)


def _apply(kube: Kube) -> None:
    kube.apply(QUICKSTART.read_text())
    # Only now, so that the operator has to find out that the cluster has got this kind.
    kube.apply(KIND.read_text())

    def ready() -> bool:
        return condition(kube.get("llmcs", NAME), "Ready").get("status") == "True"

    with step(f"llmcs/{NAME} is Ready"):
        wait_until(f"llmcs/{NAME} is Ready (kubectl describe llmcs {NAME})", ready, seconds=START_SECONDS)


def _monitors(cluster: Cluster, kube: Kube) -> list[dict[str, Any]]:
    """Return the PodMonitors of the service, which the operator makes, and that of the operator."""
    system = Kube(cluster.kubeconfig, NAMESPACE)
    system.apply(OPERATOR_MONITOR.read_text())
    with step("the operator makes PodMonitors"):
        wait_until("three PodMonitors", lambda: len(kube.items("podmonitors")) == 3, seconds=120)
    return [*kube.items("podmonitors"), *system.items("podmonitors")]


def _router(kube: Kube) -> str:
    service = kube.get("service", f"{NAME}-router")
    if service is None:
        raise ClusterError(f"there is no service/{NAME}-router")
    return f"http://{service['spec']['clusterIP']}"


def _parts(server: Prometheus) -> set[str]:
    """Name the parts of which a target is up."""
    up = [target for target in server.targets() if target["health"] == "up"]
    return {target["labels"].get("component", "operator") for target in up}


def _report(server: Prometheus) -> None:
    """Print targets and rules. Raises ClusterError where a target is down or a rule can't be evaluated."""
    table = Table(title="Targets", title_justify="left")
    for column in ("job", "component", "pod", "health"):
        table.add_column(column)
    targets, rules = server.targets(), server.rules()
    for target in targets:
        labels = target["labels"]
        table.add_row(labels["job"], labels.get("component", "operator"), labels["pod"], target["health"])
    console.print(table)
    alerts = [f"{rule['name']} ({rule['state']})" for rule in rules if rule.get("state", "inactive") != "inactive"]
    console.print(f"{len(rules)} rules evaluated; alerts that are not inactive: {', '.join(alerts) or 'none'}")
    wrong = [f"{target['scrapeUrl']}: {target['lastError']}" for target in targets if target["health"] != "up"]
    wrong += [f"rule {rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
    if wrong:
        raise ClusterError("; ".join(wrong))
