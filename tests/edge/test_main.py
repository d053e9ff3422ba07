"""How the process ends when it can't begin: an exit code and one line that says what to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

UNUSABLE, BROKEN = 2, 1
IMAGES = {
    "LLMCACHE_ENGINE_IMAGE": "engine:1",
    "LLMCACHE_CACHE_SERVER_IMAGE": "cache:1",
    "LLMCACHE_ROUTER_IMAGE": "router:1",
}
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(KUBECONFIG))
    return path


def run(kubeconfig: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "KUBECONFIG": str(kubeconfig), **environ}
    argv = [sys.executable, "-m", "llmcache_operator.edge.main", *args]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_without_credentials_it_says_where_it_looked(tmp_path: Path) -> None:
    ended = run(tmp_path / "absent", **IMAGES)

    assert ended.returncode == UNUSABLE
    assert "set KUBECONFIG" in json.loads(ended.stderr.splitlines()[-1])["message"]


def test_without_images_it_names_what_is_missing(kubeconfig: Path) -> None:
    ended = run(kubeconfig)

    assert ended.returncode == UNUSABLE
    assert "LLMCACHE_ENGINE_IMAGE" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_named(kubeconfig: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]

        ended = run(kubeconfig, "--port", str(port), **IMAGES)

    assert ended.returncode == BROKEN
    assert str(port) in json.loads(ended.stderr.splitlines()[-1])["message"]
