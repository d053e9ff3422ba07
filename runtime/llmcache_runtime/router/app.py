"""The router's life: start, serve, stop without losing a stream."""

import asyncio
import logging
import signal

from llmcache_runtime.policy import POLICIES, Fleet, PrefixAware
from llmcache_runtime.router.access_log import AccessLog
from llmcache_runtime.router.admission import Admission
from llmcache_runtime.router.connection import Client, Connections, Handler
from llmcache_runtime.router.engines import Engines
from llmcache_runtime.router.health import Health
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.models import Models
from llmcache_runtime.router.private import Private
from llmcache_runtime.router.proxy import Proxy
from llmcache_runtime.router.settings import Settings

_log = logging.getLogger(__name__)


class Router:
    """All parts of a router, joined. Make it inside a running loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = AccessLog(enabled=settings.access_log)
        self._connections = Connections(settings.max_connections)
        self._stop = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        metrics = Metrics()
        policy = self._policy()
        self.engines = Engines(policy, metrics, settings.connect_timeout)
        self._health = Health(self.engines, policy, metrics, settings.health)
        admission = Admission(policy, self.engines, metrics, settings.admission)
        self._proxy = Proxy(
            policy,
            self.engines,
            self._health,
            admission,
            Models(self.engines),
            metrics,
            self._log,
            settings.proxy,
        )
        self._private = Private(policy, self.engines, metrics, self._connections)

    def _policy(self) -> Fleet:
        if self._settings.policy == "PrefixAware":
            return PrefixAware(self._settings.prices)
        return POLICIES[self._settings.policy]()

    def stop(self) -> None:
        """Begin a graceful stop; `run` returns when it is over."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`, or SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        private = Connections(100)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._discover()),
                tasks.create_task(self._health.probe_all()),
                tasks.create_task(self._connections.sweep()),
                tasks.create_task(private.sweep()),
            ]
            await self._listen(self._private, private, self._settings.private_port)
            public = await self._listen(self._proxy, self._connections, self._settings.port)
            await self._stop.wait()
            await self._drain(public)
            for task in background:
                task.cancel()
        for server in self._servers:
            server.close()
        private.abort_all()
        self._log.flush()

    async def _listen(self, handler: Handler, connections: Connections, port: int) -> asyncio.Server:
        settings = self._settings
        server = await asyncio.get_running_loop().create_server(
            lambda: Client(handler, settings.limits, settings.patience, connections),
            settings.host,
            port,
            backlog=4096,
        )
        self._servers.append(server)
        return server

    async def _discover(self) -> None:
        if self._settings.service is None:
            self.engines.apply(self._settings.engines)
            return
        # Imported here: these cost 15 MB, which a router with a fixed list of engines needs not pay.
        from llmcache_runtime.router.kube import Api  # noqa: PLC0415
        from llmcache_runtime.router.watch import EndpointSliceWatch  # noqa: PLC0415

        namespace, service = self._settings.service
        await EndpointSliceWatch(Api.in_cluster(), namespace, service, self.engines.apply).run()

    async def _drain(self, public: asyncio.Server) -> None:
        """Turn readiness off, wait until nobody is sent here any more, close, let what runs come to its end."""
        _log.info("stopping: not ready, still accepting for %g s", self._settings.grace)
        self._private.stopping = True
        self._connections.closing = True
        await asyncio.sleep(self._settings.grace)
        public.close()
        self._connections.close_idle()
        deadline = asyncio.get_running_loop().time() + self._settings.drain_timeout
        while len(self._connections) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        if len(self._connections):
            _log.warning(
                "stopping: cut %d connections after %g s", len(self._connections), self._settings.drain_timeout
            )
        self._connections.abort_all()
