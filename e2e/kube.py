"""A cluster seen through kubectl: what demo and tests need to apply, read, wait and reach pods."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from e2e.cluster.kubectl import binary, kubectl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Kube:
    """One namespace of one cluster."""

    kubeconfig: Path
    namespace: str = "default"

    def run(self, *args: str, stdin: str | None = None, seconds: float = 30) -> str:
        """Run kubectl in this namespace and return its output; raises ClusterError with what it said."""
        return kubectl(self.kubeconfig, ["--namespace", self.namespace, *args], stdin=stdin, seconds=seconds)

    def apply(self, *objects: Json | str) -> None:
        """Server-side apply objects, or YAML text."""
        for obj in objects:
            text = obj if isinstance(obj, str) else json.dumps(obj)
            self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    def get(self, kind: str, name: str) -> Json | None:
        """Return one object, or None where there is none of that name."""
        text = self.run("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def items(self, kind: str, selector: str = "") -> list[Json]:
        """Return the objects of a kind that match a label selector."""
        items: list[Json] = json.loads(self.run("get", kind, "-l", selector, "-o", "json"))["items"]
        return items

    def pods(self, service: str, component: str, *, leaving: bool = False) -> list[Json]:
        """Return the pods of one component of an LLMCacheService by name; those that are going away, too, if asked."""
        selector = f"llmcache.dev/service={service},app.kubernetes.io/component={component}"
        pods = [pod for pod in self.items("pods", selector) if leaving or "deletionTimestamp" not in pod["metadata"]]
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))

    def is_ready(self, pod: str) -> bool:
        """Whether a pod is there and ready."""
        return condition(self.get("pod", pod), "Ready").get("status") == "True"

    def raw(self, pod: str, port: int, path: str) -> str:
        """GET a path of a pod through the API server."""
        return self.run("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy{path}")

    @contextlib.contextmanager
    def forward(self, target: str, port: int, *, seconds: float = 20) -> Iterator[str]:
        """Make a port of a pod or Service reachable as long as the context lasts; gives http://127.0.0.1:PORT."""
        argv = [binary(), f"--kubeconfig={self.kubeconfig}", "--namespace", self.namespace]
        argv += ["port-forward", "--address=127.0.0.1", target, f":{port}"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            watchdog = time.monotonic() + seconds
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                match = re.search(r"127\.0\.0\.1:(\d+)", line)
                if match is None or time.monotonic() > watchdog:
                    raise TimeoutError(f"kubectl port-forward {target} {port} said: {line or 'nothing'}")
                yield f"http://127.0.0.1:{match[1]}"
            finally:
                process.terminate()


def condition(resource: Json | None, kind: str) -> Json:
    """Return one condition of an object; an empty one where it is not there."""
    conditions: list[Json] = (resource or {}).get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def wait_until(what: str, probe: Callable[[], T | None], *, seconds: float, every: float = 1.0) -> T:
    """Return what `probe` gives once that is true; raises TimeoutError that says what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {seconds:g} s; last seen: {found!r}")
        time.sleep(every)
