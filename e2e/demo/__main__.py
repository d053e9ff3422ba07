"""Run the demo: cluster, images, operator, one YAML, a chat, the sharing, and `kubectl get llmcs`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

import yaml
from rich.live import Live
from rich.text import Text

from e2e import counters, images
from e2e.cluster import lifecycle
from e2e.cluster.console import console
from e2e.cluster.errors import ClusterError
from e2e.demo import chat, show
from e2e.install import DEPLOYMENT, NAMESPACE, ROOT, install
from e2e.kube import Kube, condition, wait_until
from e2e.models import provide_models

if TYPE_CHECKING:
    from e2e.cluster.layout import Cluster

QUICKSTART = ROOT / "deploy/examples/quickstart.yaml"
START_SECONDS = 600.0
SILENT_SECONDS = 60.0
# By default the status follows measurements once a minute; whoever watches a demo has less patience.
OPERATOR_ARGS = ("--scrape-interval", "5", "--status-interval", "10")


def main() -> None:
    """Run all of it; what goes wrong becomes a message and exit status 1."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--name", default="dev", help="which local cluster (default: dev)")
    begin = time.monotonic()
    try:
        run(parser.parse_args().name, begin)
    except (ClusterError, TimeoutError) as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)


def run(name: str, begin: float) -> None:
    """Bring everything up, show the cache at work, and say what to try next."""
    _heading("1. A real Kubernetes, without Docker")
    with images.built_ahead():
        cluster = lifecycle.up(name)
    _heading("2. Images, and the operator")
    refs = images.ensure(name)
    install(cluster.kubeconfig, refs, OPERATOR_ARGS)
    kube = Kube(cluster.kubeconfig)
    provide_models(kube, refs)
    _heading(f"3. One YAML: {QUICKSTART.relative_to(ROOT)}")
    text = QUICKSTART.read_text()
    console.print(Text(text, style="dim"))
    service = yaml.safe_load(text)
    kube.apply(text)
    for kind in ("Ready", "CacheSharingVerified"):
        _wait_for(kube, service["metadata"]["name"], kind)
    _heading("4. A chat through the router, with the openai client")
    _chat(kube, service["metadata"]["name"], service["spec"]["model"]["servedName"])
    _heading("5. The same prompt asked of the other engine")
    _share(kube, service["metadata"]["name"], service["spec"]["model"]["servedName"])
    _heading("6. What the service says of itself")
    _status(kube, service["metadata"]["name"])
    _next(cluster, name, time.monotonic() - begin)


def _heading(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def _wait_for(kube: Kube, service: str, kind: str) -> None:
    """Wait for a condition, and show what the resource says meanwhile."""
    begin = time.monotonic()
    with Live(console=console, refresh_per_second=2) as live:

        def holds() -> bool:
            found = condition(kube.get("llmcs", service), kind)
            waited = time.monotonic() - begin
            said = found.get("message", "waiting for the operator")
            live.update(Text(f"{waited:4.0f} s  {kind}={found.get('status', 'Unknown')}  {said}"))
            if not found and waited > SILENT_SECONDS:
                raise TimeoutError(
                    f"the operator says nothing of llmcs/{service}: kubectl logs -n {NAMESPACE} deployment/{DEPLOYMENT}"
                )
            return found.get("status") == "True"

        wait_until(f"llmcs/{service} is {kind} (kubectl describe llmcs {service})", holds, seconds=START_SECONDS)


def _engines(kube: Kube, service: str) -> list[str]:
    return [pod["metadata"]["name"] for pod in kube.pods(service, "engine")]


def _chat(kube: Kube, service: str, model: str) -> None:
    engines = _engines(kube, service)
    rows: list[chat.Turn] = []
    with kube.forward(f"service/{service}-router", 80) as url, Live(console=console, refresh_per_second=2) as live:
        for turn in chat.talk(kube, service, model, url):
            rows.append(turn)
            live.update(show.turns(rows, engines))
    console.print("\n", show.legend(), sep="")


def _share(kube: Kube, service: str, model: str) -> None:
    """Ask two engines directly, past the router, which would have sent both to the same one."""
    prompt = " ".join(chat.handbook(f"Visitor {time.time_ns() % 10**6}") for _ in range(2))
    rows = []
    for pod in _engines(kube, service)[:2]:
        before = counters.read(kube, pod)
        with kube.forward(f"pod/{pod}", counters.ENGINE_PORT) as url:
            seconds = chat.ask_directly(url, model, prompt)
        name = f"engine {show.letter(pod, _engines(kube, service))}"
        rows.append((name, seconds, counters.read(kube, pod) - before))
    console.print(show.sharing(rows))


def _status(kube: Kube, service: str) -> None:
    """Wait until the operator has measured the chat, and print what `kubectl get` says."""

    def measured() -> bool:
        cache = (kube.get("llmcs", service) or {}).get("status", {}).get("cache", {})
        return bool(cache.get("tiers", {}).get("server"))

    wait_until(f"llmcs/{service} shows a hit rate", measured, seconds=180)
    console.print(f"$ kubectl get llmcs {service}", style="dim")
    console.out(kube.run("get", "llmcs", service), highlight=False)
    console.print(f"$ kubectl get llmcs {service} -o wide", style="dim")
    console.out(kube.run("get", "llmcs", service, "-o", "wide"), highlight=False)


def _next(cluster: Cluster, name: str, seconds: float) -> None:
    suffix = "" if name == "dev" else f" CLUSTER={name}"
    console.print(f"Done in {seconds:.0f} s. Try next:\n")
    for command, what in (
        (f"make -s kubeconfig{suffix} > kubeconfig; export KUBECONFIG=$PWD/kubeconfig", "talk to the cluster yourself"),
        ("kubectl describe llmcs chat", "all conditions, with reasons"),
        ("kubectl scale llmcs chat --replicas 1", "one engine less; the shared cache stays"),
        ("kubectl delete pod -l app.kubernetes.io/component=engine", "new engines, same cache: ask again"),
        ("kubectl explain llmcs.spec", "what else the YAML may say"),
        (f"make demo-down{suffix}", "take everything down"),
    ):
        console.print(Text.assemble("  ", (command, "cyan"), f"\n      {what}"))
    console.print(f"\nThe cluster's folder: {cluster.folder}", style="dim")


if __name__ == "__main__":
    main()
