"""An LLMCacheService with real engines under load, in which causes are injected."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from e2e.causes.real.node import send
from e2e.causes.traffic import Traffic, Usage
from e2e.kube import condition, wait_until
from e2e.services import Service, manifest

if TYPE_CHECKING:
    from concurrent.futures import Future

    from e2e.causes.fake.serving import Loop
    from e2e.causes.traffic import Request
    from e2e.causes.watch import Seen, Watch
    from e2e.kube import Json, Kube

NAME = "causes"
STRAY = f"{NAME}-engine-stray"
START_SECONDS, READY_SECONDS = 900.0, 300.0
SESSIONS, PAUSE = 8, 5.0
MEMORY = "160Mi"
SPEC: Json = {
    # Room for 6,144 tokens: eight conversations don't fit into two of these, so that the server has work.
    "engine": {"replicas": 2, "kvCacheMemory": "64Mi", "args": ["--num-gpu-blocks-override", "192"]},
    # So little that one which was emptied is half full again within a minute.
    "cache": {"memory": MEMORY, "selfTest": "Enabled"},
}


@dataclass
class Live:
    """The service, its clients, and all that they were told."""

    kube: Kube
    watch: Watch
    loop: Loop
    name: str = NAME
    traffic: Traffic = field(default_factory=lambda: Traffic(pause=PAUSE, idle=True))
    usages: list[Usage] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Create the service, wait until it is ready, and start its clients."""
        self.kube.apply(manifest(self.name, **SPEC))
        self.service = Service(self.kube, self.name)
        self.service.wait("Ready", "True", seconds=START_SECONDS)
        self.find()
        self._client = httpx.AsyncClient(timeout=120, trust_env=False)
        self._clients: Future[None] = self.loop.start(self.traffic.run(self._send))

    def restart_clients(self, sessions: int, pause: float | None = None) -> None:
        """Let another number of conversations begin; without a `pause`, with as many requests a second as ever."""
        self._clients.cancel()
        self.traffic.sessions, self.traffic.pause = sessions, pause or PAUSE * sessions / SESSIONS
        self._clients = self.loop.start(self.traffic.run(self._send))

    def stop(self) -> None:
        """End the clients and delete the service."""
        self._clients.cancel()
        self.loop.call(self._client.aclose())
        self.kube.run("delete", "llmcs", self.name)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the resource."""
        return self.kube.namespace, self.name

    def history(self) -> list[Seen]:
        """Return all versions of the resource so far, oldest first."""
        return self.watch.history(*self.key)

    def conditions(self) -> dict[str, Json]:
        """Return the newest conditions of the resource, by type."""
        versions = self.history()
        return versions[-1].conditions() if versions else {}

    def cache(self) -> Json:
        """Return the newest `status.cache`."""
        versions = self.history()
        return versions[-1].cache() if versions else {}

    def engines(self) -> list[Json]:
        """Return the pods of the engines that are ready, by name."""
        return [pod for pod in self.kube.pods(self.name, "engine") if condition(pod, "Ready").get("status") == "True"]

    def cache_server(self) -> Json:
        """Return the pod of the cache server."""
        (pod,) = self.kube.pods(self.name, "cache-server")
        return pod

    def find(self) -> None:
        """Look up where router and engines are: it changes with what is injected."""
        router = self.kube.get("service", f"{self.name}-router") or {}
        self._router = f"http://{router['spec']['clusterIP']}:{router['spec']['ports'][0]['port']}"
        self._engines = [f"http://{pod['status']['podIP']}:8000" for pod in self.engines()]

    def pause(self) -> None:
        """Let the operator leave the children as they are."""
        Service(self.kube, self.name).pause()

    def go_on(self) -> None:
        """Let the operator put right what was changed."""
        Service(self.kube, self.name).go_on()

    def edit(self, kind: str, name: str, patch: Json) -> None:
        """Merge a change into a child, as a person would."""
        self.kube.run("patch", kind, name, "--type=strategic", "-p", json.dumps(patch))

    def wait_for_pod(self, name: str) -> None:
        """Wait until a pod answers."""
        wait_until(f"pod {name} is ready", lambda: self.kube.is_ready(name), seconds=READY_SECONDS)

    def restart_engine(self) -> None:
        """Let the container of one engine start again, and wait until it answers."""
        self.kill(self.engines()[0], "vllm")

    def kill(self, pod: Json, program: str) -> None:
        """Kill the processes of a pod whose command line holds `program`, and wait until it answers again."""
        name, before = pod["metadata"]["name"], restarts(pod)
        send(pod, program, signal.SIGKILL)
        wait_until(f"{name} restarts", lambda: restarts(self.kube.get("pod", name) or {}) > before, seconds=60)
        self.wait_for_pod(name)

    def scale(self, count: int) -> None:
        """Have another number of engines."""
        self.kube.run("scale", "llmcs", self.name, f"--replicas={count}")
        self.service.wait("Ready", "True")

    def template(self) -> Json:
        """Return the engines' pod template."""
        deployment = self.kube.get("deployment", f"{self.name}-engine") or {}
        template: Json = deployment["spec"]["template"]
        return template

    def add_stray(self, template: Json) -> None:
        """Add an engine pod that the operator did not make, and wait until it answers."""
        metadata = {"name": STRAY, **{key: template["metadata"][key] for key in ("labels", "annotations")}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        self.kube.run("create", "-f", "-", stdin=json.dumps(pod))
        self.wait_for_pod(STRAY)
        self.find()

    def remove_stray(self) -> None:
        """Take it away."""
        self.kube.run("delete", "pod", STRAY, "--grace-period=1", "--timeout=60s", seconds=65)
        self.find()

    async def _send(self, request: Request) -> None:
        engines = self._engines
        base = self._router if request.engine is None else engines[request.engine % len(engines)]
        body = {"model": self.name, "prompt": request.prompt, "max_tokens": 1, "temperature": 0}
        try:
            answer = await self._client.post(f"{base}/v1/completions", json=body)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            # Some causes take engines away; clients go on.
            self.errors.append(repr(error))
            return
        usage = answer.json()["usage"]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        self.usages.append(Usage(time.time(), usage["prompt_tokens"], cached))


def restarts(pod: Json) -> int:
    """Return how often the containers of a pod were restarted."""
    statuses: list[Json] = pod.get("status", {}).get("containerStatuses", [])
    return sum(status["restartCount"] for status in statuses)
