"""Install the CRD and the operator into a cluster, with images that were built here."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from e2e.cluster.console import console, step
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import kubectl

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
OVERLAY = ROOT / "deploy/kustomize/local"
NAMESPACE = "llmcache-system"
DEPLOYMENT = "llmcache-operator"
_IMAGES = {
    "LLMCACHE_OPERATOR_IMAGE": "operator",
    "LLMCACHE_ENGINE_IMAGE": "engine-cpu",
    "LLMCACHE_CACHE_SERVER_IMAGE": "engine-cpu",
    "LLMCACHE_ROUTER_IMAGE": "router",
    "LLMCACHE_VALKEY_IMAGE": "valkey",
}


def install(kubeconfig: Path, refs: Mapping[str, str], args: tuple[str, ...] = ()) -> None:
    """Apply deploy/kustomize/local with the images of `refs` and wait until the operator is ready.

    `args` are more arguments for the operator. Raises ClusterError when it does not come up.
    """
    _write("".join(f"{name}={refs[image]}\n" for name, image in _IMAGES.items()))
    rendered = kubectl(kubeconfig, ["kustomize", str(OVERLAY)])
    objects = [_with_args(obj, args) for obj in yaml.safe_load_all(rendered)]
    with step("CRD and operator"):
        first = [obj for obj in objects if obj["kind"] in ("Namespace", "CustomResourceDefinition")]
        for part in (first, [obj for obj in objects if obj not in first]):
            text = yaml.safe_dump_all(part)
            kubectl(kubeconfig, ["apply", "--server-side", "--force-conflicts", "-f", "-"], stdin=text, seconds=60)
        rollout = ["rollout", "status", f"deployment/{DEPLOYMENT}", "-n", NAMESPACE, "--timeout=120s"]
        kubectl(kubeconfig, rollout, seconds=125)


def _write(names: str) -> None:
    """Write the overlay's image names; whole, for another run from this folder may be reading them."""
    file = OVERLAY / "images.env"
    if not file.exists() or file.read_text() != names:
        scratch = file.with_suffix(f".{os.getpid()}")
        scratch.write_text(names)
        scratch.replace(file)


def _with_args(obj: dict[str, Any], args: tuple[str, ...]) -> dict[str, Any]:
    if obj["kind"] == "Deployment" and args:
        container = obj["spec"]["template"]["spec"]["containers"][0]
        container["args"] = [*container.get("args", []), *args]
    return obj


def main() -> None:
    """Build what is missing, load it, install."""
    from e2e import images  # noqa: PLC0415 - building needs more than installing does
    from e2e.cluster import slots  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="dev", help="which local cluster (default: dev)")
    name = parser.parse_args().name
    try:
        cluster = slots.get(name)
        install(cluster.kubeconfig, images.ensure(name))
    except ClusterError as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
