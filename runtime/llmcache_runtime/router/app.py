"""The router's life: start, serve, stop without losing a stream."""

import asyncio
import logging
import ssl
from collections.abc import Coroutine

from llmcache_runtime.router.access_log import AccessLog
from llmcache_runtime.router.auth import ApiKeys
from llmcache_runtime.router.connection import Client, Connections, Handler
from llmcache_runtime.router.deadlines import Deadlines
from llmcache_runtime.router.forward import Forwarder
from llmcache_runtime.router.knowledge import Knowledge
from llmcache_runtime.router.models import Models
from llmcache_runtime.router.private import Private
from llmcache_runtime.router.proxy import Proxy
from llmcache_runtime.router.settings import Settings
from llmcache_runtime.router.tls import Certificate

_log = logging.getLogger(__name__)

_PRIVATE_CONNECTIONS = 100


class Router:
    """All parts of a router, joined. Make it inside a running loop.

    `port` and `private_port` are those listened on once `listening` is set.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = AccessLog(enabled=settings.access_log)
        self._connections = Connections(settings.max_connections)
        self._private_connections = Connections(_PRIVATE_CONNECTIONS)
        self._stop = asyncio.Event()
        self.listening = asyncio.Event()
        self.port = self.private_port = 0
        knowledge = self._knowledge = Knowledge(settings)
        self.policy, self.engines = knowledge.policy, knowledge.engines
        self._deadlines = Deadlines(settings.forward.first_byte_timeout)
        forward = Forwarder(
            self.policy,
            self.engines,
            knowledge.health,
            knowledge.admission,
            self._deadlines,
            knowledge.metrics,
            settings.forward,
        )
        self._keys = ApiKeys(settings.api_keys) if settings.api_keys else None
        self._certificate = Certificate(*settings.tls) if settings.tls else None
        models = Models(self.engines)
        self._proxy = Proxy(
            forward, models, self.engines, knowledge.metrics, self._log, self._keys, settings.admin_paths
        )
        self._private = Private(self.policy, self.engines, knowledge.metrics, self._connections)

    def stop(self) -> None:
        """Begin a graceful stop; `run` returns when it is over."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises OSError when a port can't be listened on."""
        tls = self._certificate.context if self._certificate else None
        private = await self._listen(self._private, self._private_connections, self._settings.private_port)
        public = await self._listen(self._proxy, self._connections, self._settings.port, tls)
        self.private_port, self.port = _port(private), _port(public)
        self.listening.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [tasks.create_task(job) for job in self._jobs()]
                await self._stop.wait()
                await self._drain(public)
                for task in background:
                    task.cancel()
        finally:
            public.close()
            private.close()
            self._connections.abort_all()
            self._private_connections.abort_all()
            self._log.flush()

    def _jobs(self) -> list[Coroutine[None, None, None]]:
        sweeps = (self._deadlines.sweep(), self._connections.sweep(), self._private_connections.sweep())
        jobs = [*self._knowledge.jobs(), *sweeps]
        followed = [source for source in (self._keys, self._certificate) if source is not None]
        return [*jobs, *(source.follow() for source in followed)]

    async def _listen(
        self, handler: Handler, connections: Connections, port: int, tls: ssl.SSLContext | None = None
    ) -> asyncio.Server:
        settings = self._settings
        return await asyncio.get_running_loop().create_server(
            lambda: Client(handler, settings.limits, settings.patience, connections),
            settings.host,
            port,
            backlog=4096,
            ssl=tls,
        )

    async def _drain(self, public: asyncio.Server) -> None:
        """Turn readiness off, wait until nobody is sent here any more, close, let what runs come to its end."""
        grace, limit = self._settings.grace, self._settings.drain_timeout
        _log.info("stopping: not ready, still accepting for %g s", grace)
        self._private.stopping = self._connections.closing = True
        await asyncio.sleep(grace)
        public.close()
        self._connections.close_idle()
        try:
            async with asyncio.timeout(limit):
                await self._connections.empty()
        except TimeoutError:
            _log.warning("stopping: cut %d connections after %g s", len(self._connections), limit)


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port
