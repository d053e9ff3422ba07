"""A real kube-apiserver with its etcd, on loopback: no kubelet, no scheduler, so objects are all there is.

Of the controllers only those run that collect garbage and empty namespaces: tests play the others themselves.
"""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2e.cluster import build, configs, pki
from e2e.cluster.layout import Cluster
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START_SECONDS = 60.0
CONTROLLERS = ("garbage-collector-controller", "namespace-controller")


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 30.0) -> None:
    """Poll until a condition holds; an AssertionError names what did not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


@dataclass
class ApiServer:
    """The running processes, and how to talk to them."""

    folder: Path
    port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._layout = Cluster("api", 0, self.folder)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def url(self) -> str:
        """Base URL."""
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start everything and wait until it serves."""
        binaries = build.ensure()
        for name in ("log", "etc", "pid"):
            (self.folder / name).mkdir()
        pki.ensure(self._layout)
        self.kubeconfig.write_text(self._for_loopback("admin"))
        (self.folder / "controllers.kubeconfig").write_text(self._for_loopback("admin"))
        (self.folder / "etc" / "audit.json").write_text(json.dumps(configs.audit_policy()))
        self._run(binaries["etcd"], self._etcd_flags())
        self._run(binaries["kube-apiserver"], self._api_server_flags())
        wait_until(self._ready, "kube-apiserver serves", seconds=START_SECONDS)
        self._run(binaries["kube-controller-manager"], self._controller_flags())

    def stop(self) -> None:
        """End everything; the data is thrown away, so nothing needs to be written."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGKILL)
            process.wait()

    def restart_api_server(self) -> None:
        """Kill kube-apiserver and start another one on the same data and port."""
        old = next(process for process in self.processes if "kube-apiserver" in str(process.args))
        old.kill()
        old.wait()
        self.processes.remove(old)
        self._run(build.paths()["kube-apiserver"], self._api_server_flags())
        wait_until(self._ready, "kube-apiserver serves again", seconds=START_SECONDS)

    def writes(self) -> list[dict[str, Any]]:
        """Every write that was asked for so far, from the audit log."""
        lines = self._layout.audit_log.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["stage"] == "ResponseComplete"]

    def _run(self, program: Path, flags: dict[str, object]) -> None:
        argv = [str(program), *(f"--{flag}={value}" for flag, value in flags.items())]
        log = (self.folder / "log" / f"{program.name}.log").open("ab")
        with log:
            self.processes.append(subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder))

    def _for_loopback(self, client: str) -> str:
        text = self._layout.pki(f"{client}.kubeconfig").read_text()
        return text.replace(self._layout.server, self.url)

    def _ready(self) -> bool:
        assert all(process.poll() is None for process in self.processes), self._tails()
        context = ssl.create_default_context(cafile=self._layout.pki("ca.crt"))
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", context=context, timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _tails(self) -> str:
        return "\n".join(log.read_text()[-2000:] for log in (self.folder / "log").glob("*.log"))

    def _etcd_flags(self) -> dict[str, object]:
        clients = f"http://127.0.0.1:{self.etcd_port}"
        peers = f"http://127.0.0.1:{free_port()}"
        return {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"default={peers}",
            "unsafe-no-fsync": "true",
            "log-level": "warn",
        }

    def _api_server_flags(self) -> dict[str, object]:
        keys = self._layout.pki
        return {
            "etcd-servers": f"http://127.0.0.1:{self.etcd_port}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "endpoint-reconciler-type": "none",
            "secure-port": self.port,
            "service-cluster-ip-range": "10.200.0.0/24",
            "tls-cert-file": keys("serving.crt"),
            "tls-private-key-file": keys("serving.key"),
            "client-ca-file": keys("ca.crt"),
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": keys("service-account.pub"),
            "service-account-signing-key-file": keys("service-account.key"),
            "authorization-mode": "RBAC",
            "audit-policy-file": self.folder / "etc" / "audit.json",
            "audit-log-path": self._layout.audit_log,
        }

    def _controller_flags(self) -> dict[str, object]:
        return {
            "kubeconfig": self.kubeconfig,
            "controllers": ",".join(CONTROLLERS),
            "leader-elect": "false",
            "secure-port": 0,
        }


@contextmanager
def running(folder: Path) -> Iterator[ApiServer]:
    """An API server for as long as the body runs."""
    server = ApiServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
