"""An LLMCacheService whose pods are fakes on loopback, under traffic. Causes are injected into it.

The API server and the operator are real; controllers and kubelet are played here: pods are made from the templates
that the operator wrote.
"""

from __future__ import annotations

import asyncio
import copy
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2e.causes.fake.cache_server import CacheServer
from e2e.causes.fake.engine import Engine
from e2e.causes.fake.kubelet import Kubelet
from e2e.causes.fake.router import Router
from e2e.causes.fake.serving import serve_cache, serve_engine, serve_router
from e2e.causes.traffic import Traffic, Usage
from e2e.kube import wait_until

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiohttp import web

    from e2e.causes.fake.api import Api
    from e2e.causes.fake.serving import Loop
    from e2e.causes.traffic import Request
    from e2e.causes.watch import Seen, Watch
    from e2e.kube import Json

ENGINES = 2
CACHE, ROUTER = 100, 101
CACHE_POD, ROUTER_POD = "chat-cache-0", "chat-router-0"
PING_SECONDS = 1.0
START_SECONDS = 180.0
"""The operator writes ten objects a second, and there are 15 for each service."""
WORKLOADS = {
    "engine": ("deployments", "chat-engine"),
    "cache-server": ("statefulsets", "chat-cache"),
    "router": ("deployments", "chat-router"),
}


@dataclass
class Fleet:
    """One service in a namespace of its own. `network` is what its pods' addresses begin with."""

    api: Api
    watch: Watch
    loop: Loop
    network: str
    spec: Json = field(default_factory=dict)
    engine_tokens: int = 9000
    scatters: bool = False
    traffic: Traffic = field(default_factory=Traffic)
    server: CacheServer = field(default_factory=CacheServer)
    router: Router = field(default_factory=Router)
    engines: list[Engine] = field(default_factory=list)
    runners: list[web.AppRunner] = field(default_factory=list)
    tasks: list[Future[None]] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    def start(self) -> None:
        """Create the service, its pods and its traffic."""
        self.api.create("namespaces", {"metadata": {"name": self.api.namespace}})
        self.api.create("serviceaccounts", {"metadata": {"name": "default"}})
        self.api.create("llmcacheservices", _service(self.spec))
        self.kubelet = Kubelet(self.api)
        self.templates = {component: self._template(component) for component in WORKLOADS}
        identity = self.templates["engine"]["metadata"]["annotations"]["llmcache.dev/cache-identity"]
        self.root = f"/llmcache/run/{identity}-0123456789ab"
        self.runners = self.loop.call(self._serve())
        traffic = self.traffic.run(self._send)
        self.tasks = [self.loop.start(self._pings()), self.loop.start(traffic)]
        self.make_pod(CACHE_POD, "cache-server")
        self.make_pod(ROUTER_POD, "router")
        for _ in range(ENGINES):
            self._add_engine()
        self.report_workloads()

    def stop(self) -> None:
        """End traffic and servers, and delete the namespace."""
        for task in self.tasks:
            task.cancel()
        self.loop.call(self._close())
        self.api.delete("namespaces", self.api.namespace)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the resource."""
        return self.api.namespace, "chat"

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

    def template(self, component: str) -> Json:
        """Return a copy of the pod template that the operator wrote for a component."""
        return copy.deepcopy(self.templates[component])

    def make_pod(self, name: str, component: str, template: Json | None = None) -> None:
        """Make a pod that is ready, in the place of one of that name, from the operator's template or another one."""
        number = {CACHE_POD: CACHE, ROUTER_POD: ROUTER}.get(name) or int(name.rpartition("-")[2])
        self.kubelet.make(name, component, self._address(number), template or self.template(component))

    def report_workloads(self, **ready: int) -> None:
        """Say of every workload what its controller would: all pods are ready, or as many as said by component."""
        for component, (kind, name) in WORKLOADS.items():
            wanted = self.api.get(kind, name)
            count = wanted["spec"]["replicas"]
            there = ready.get(component.replace("-", "_"), count)
            status = dict.fromkeys(("replicas", "updatedReplicas"), count)
            status |= dict.fromkeys(("readyReplicas", "availableReplicas"), there)
            status |= {"observedGeneration": wanted["metadata"]["generation"]}
            self.api.merge(kind, name, {"status": status}, subresource="status")

    def change(self, spec: Json) -> None:
        """Merge a change into the spec, and let the workloads follow."""
        before = self.api.get("llmcacheservices", "chat")["metadata"]["generation"]
        self.api.merge("llmcacheservices", "chat", {"spec": spec})

        def observed() -> bool:
            status: Json = self.api.get("llmcacheservices", "chat").get("status", {})
            return bool(status.get("observedGeneration", 0) > before)

        wait_until("the operator has seen the change", observed, seconds=START_SECONDS, every=0.2)
        self.report_workloads()

    def scale(self, count: int) -> None:
        """Have another number of engines, whose pods come and go at the end."""
        self.change({"engine": {"replicas": count}})
        while len(self.engines) < count:
            self._add_engine()
        while len(self.engines) > count:
            self.engines.pop().up = False
            self.api.delete("pods", engine_pod(len(self.engines)))
        self.report_workloads()

    def restart_engine(self, number: int, **fields: Any) -> None:
        """Let an engine's container start again, with other properties."""
        self.loop.call(_restarted(self.engines[number], fields))
        self.kubelet.report(engine_pod(number), restarted=True)

    def restart_cache_server(self, **fields: Any) -> None:
        """Let the cache server's container start again, empty, with other properties."""
        self.loop.call(_restarted(self.server, fields))
        self.kubelet.report(CACHE_POD, restarted=True)

    def _template(self, component: str) -> Json:
        kind, name = WORKLOADS[component]

        def found() -> Json | None:
            objects = {obj["metadata"]["name"]: obj for obj in self.api.items(kind)}
            return objects.get(name)

        made = wait_until(f"{kind}/{name} is there", found, seconds=START_SECONDS, every=0.2)
        template: Json = made["spec"]["template"]
        return template

    def _address(self, number: int) -> str:
        return f"{self.network}.{number + 1}"

    async def _send(self, request: Request) -> None:
        """Be the router: keep a session on its engine, unless it scatters."""
        running = [engine for engine in self.engines if engine.up]
        number = request.engine
        if number is None:
            self.router.requests += 1
            number = request.session + request.turn * self.scatters
        answer = await running[number % len(running)].ask(request.prompt)
        tokens = sum(answer.sources)
        self.usages.append(Usage(time.time(), tokens, tokens - answer.sources[0]))

    def _add_engine(self) -> None:
        number = len(self.engines)
        engine = Engine(self.root, self.server, cache_tokens=self.engine_tokens)
        self.runners.append(self.loop.call(serve_engine(engine, self._address(number), 8000)))
        self.make_pod(engine_pod(number), "engine")
        self.engines.append(engine)

    async def _serve(self) -> list[web.AppRunner]:
        cache = serve_cache(self.server, self._address(CACHE), 8080)
        router = serve_router(self.router, self._address(ROUTER), 9090)
        return list(await asyncio.gather(cache, router))

    async def _close(self) -> None:
        for runner in self.runners:
            await runner.cleanup()

    async def _pings(self) -> None:
        while True:
            for engine in self.engines:
                engine.ping()
            self.server.reap()
            await asyncio.sleep(PING_SECONDS)


def engine_pod(number: int) -> str:
    """Return the name of an engine's pod."""
    return f"chat-engine-{number}"


def _service(spec: Json) -> Json:
    wanted = {"model": {"uri": "pvc://models/tiny"}, "engine": {"replicas": ENGINES}, "router": {"replicas": 1}}
    return {
        "apiVersion": "llmcache.dev/v1alpha1",
        "kind": "LLMCacheService",
        "metadata": {"name": "chat"},
        "spec": wanted | spec,
    }


async def _restarted(fake: Engine | CacheServer, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        setattr(fake, name, value)
    fake.restart()
