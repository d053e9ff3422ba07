"""A Prometheus of one's own, on loopback, as long as a context lasts."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from e2e.cluster import build
from e2e.cluster.versions import PROMETHEUS
from e2e.kube import wait_until
from e2e.monitoring.query import Prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STOP_SECONDS = 20.0


@contextlib.contextmanager
def prometheus(config: dict[str, Any], folder: Path) -> Iterator[Prometheus]:
    """Run it with this configuration and its data in `folder`. Raises TimeoutError with its log's name."""
    program = build.ensure([PROMETHEUS])["prometheus"]
    file, log = folder / "prometheus.json", folder / "prometheus.log"
    file.write_text(json.dumps(config))
    port = _free_port()
    flags = {"config.file": file, "storage.tsdb.path": folder / "data", "web.listen-address": f"127.0.0.1:{port}"}
    argv = [str(program), *(f"--{flag}={value}" for flag, value in flags.items())]
    found = Prometheus(f"http://127.0.0.1:{port}")
    with log.open("wb") as lines, subprocess.Popen(argv, stdout=lines, stderr=subprocess.STDOUT, cwd=folder) as process:
        try:
            wait_until(f"Prometheus answers (see {log})", found.ready, seconds=30, every=0.2)
            yield found
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
