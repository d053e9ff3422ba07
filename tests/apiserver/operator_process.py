"""The operator as it runs in a pod: a process of its own, with the rights of its ServiceAccount."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from e2e.kube import Kube, wait_until
from tests.ports import free_port

if TYPE_CHECKING:
    from e2e.kube import Json
    from tests.apiserver.server import ApiServer

REPOSITORY = Path(__file__).parents[2]
SYSTEM = "llmcache-system"
STOP_SECONDS = 20.0
IMAGES = {
    "LLMCACHE_ENGINE_IMAGE": "example.org/engine:1",
    "LLMCACHE_CACHE_SERVER_IMAGE": "example.org/cache:1",
    "LLMCACHE_ROUTER_IMAGE": "example.org/router:1",
}


def install(server: ApiServer) -> Path:
    """Install deploy/kustomize/base, its Deployment included, and return the operator's own credentials as a file."""
    system = Kube(server.kubeconfig, SYSTEM)
    base = str(REPOSITORY / "deploy" / "kustomize" / "base")
    system.run("apply", "--server-side", "--force-conflicts", "-k", base)
    system.run("wait", "--for=condition=Established", "crd/llmcacheservices.llmcache.dev", "--timeout=20s")
    token = system.run("create", "token", "llmcache-operator", "--duration=3h").strip()
    config = json.loads(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = server.folder / "operator.kubeconfig"
    path.write_text(json.dumps(config))
    return path


@dataclass
class OperatorProcess:
    """One process and its log."""

    kubeconfig: Path
    log_file: Path
    args: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        environment = {**os.environ, **IMAGES, "KUBECONFIG": str(self.kubeconfig), "POD_NAME": self.log_file.stem}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        argv = [sys.executable, "-m", "llmcache_operator.edge.main", "--port", str(self.port), *self.args]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(argv, stderr=log, stdout=log, env=environment)

    def lines(self) -> list[Json]:
        """Every line of the log; each must be JSON."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def said(self, text: str) -> bool:
        """Whether a message contains this."""
        return any(text in line["message"] for line in self.lines())

    def wait_for(self, text: str, *, seconds: float = 30.0) -> None:
        """Wait until a message contains this."""
        wait_until(f"the operator says {text!r}", lambda: self.said(text), seconds=seconds, every=0.05)

    def wait_until_leading(self) -> None:
        """Wait until it may write."""
        self.wait_for("leading as")

    def metrics(self) -> str:
        """What it exposes to Prometheus; nothing while it doesn't answer."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).text
        except httpx.TransportError:
            return ""

    def stop(self) -> int:
        """Ask it to end, as the kubelet does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    @property
    def ended(self) -> bool:
        """Whether it has ended, by itself or not."""
        return self.process.poll() is not None
