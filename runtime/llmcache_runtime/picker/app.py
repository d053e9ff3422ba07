"""The picker's life: start, serve, stop without harm to any request."""

import asyncio
import logging

import grpc

from llmcache_runtime.picker.chooser import Chooser
from llmcache_runtime.picker.exchange import Exchange
from llmcache_runtime.picker.service import ExternalProcessor, HealthChecks
from llmcache_runtime.picker.tls import CertificateFiles
from llmcache_runtime.router.access_log import AccessLog
from llmcache_runtime.router.connection import Client, Connections
from llmcache_runtime.router.knowledge import Knowledge
from llmcache_runtime.router.private import Private
from llmcache_runtime.router.settings import Settings

_log = logging.getLogger(__name__)

_PRIVATE_CONNECTIONS = 100
_OVERHEAD = 1024 * 1024
"""Bytes that a message may have beside the body in it."""


class Picker:
    """All parts of a picker, joined. Make it inside a running loop.

    `port` (gRPC) and `private_port` are those listened on once `listening` is set.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self.listening = asyncio.Event()
        self.port = self.private_port = 0
        self.knowledge = knowledge = Knowledge(settings)
        chooser = Chooser(knowledge)
        self._log = AccessLog(enabled=settings.access_log)
        self._processor = ExternalProcessor(lambda: Exchange(chooser, knowledge.metrics, settings), self._log)
        self._private = Private(knowledge.policy, knowledge.engines, knowledge.metrics, self._processor)
        self._health = HealthChecks(lambda: knowledge.engines.synced and not self._private.stopping)
        self._connections = Connections(_PRIVATE_CONNECTIONS)
        self._certificate = CertificateFiles(*settings.tls) if settings.tls else None

    def stop(self) -> None:
        """Begin a graceful stop; `run` returns when it is over."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises OSError when a port can't be listened on."""
        private = await self._listen_privately()
        self.private_port = private.sockets[0].getsockname()[1]
        server = await self._serve()
        self.listening.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                jobs = [*self.knowledge.jobs(), self._connections.sweep()]
                background = [tasks.create_task(job) for job in jobs]
                await self._stop.wait()
                await self._drain(server)
                for task in background:
                    task.cancel()
        finally:
            await server.stop(None)
            private.close()
            self._connections.abort_all()
            self._log.flush()

    async def _listen_privately(self) -> asyncio.Server:
        settings = self._settings
        return await asyncio.get_running_loop().create_server(
            lambda: Client(self._private, settings.limits, settings.patience, self._connections),
            settings.host,
            settings.private_port,
        )

    async def _serve(self) -> grpc.aio.Server:
        limit = self._settings.limits.body + _OVERHEAD
        options = [("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((self._processor.handler, self._health.handler))
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            if self._certificate is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, self._certificate.credentials())
        except RuntimeError as error:
            raise OSError(f"{address} can't be listened on: {error}") from None
        await server.start()
        return server

    async def _drain(self, server: grpc.aio.Server) -> None:
        """Turn readiness off, wait until no gateway comes here any more, and let what still needs answers end."""
        grace, limit = self._settings.grace, self._settings.drain_timeout
        _log.info("stopping: not ready, still accepting for %g s", grace)
        self._private.stopping = True
        await asyncio.sleep(grace)
        self._processor.stop()
        await server.stop(limit)
