"""The picker's gRPC services: ext_proc, and the health checks that the endpoint picker protocol asks for."""

import asyncio
from collections.abc import Callable, Sized
from typing import Any

import grpc
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from llmcache_runtime.picker.exchange import Exchange
from llmcache_runtime.router.access_log import AccessLog

EXT_PROC = "envoy.service.ext_proc.v3.ExternalProcessor"
_LIVENESS = "liveness"
_CHECKED = frozenset({"", _LIVENESS, "readiness", EXT_PROC})


class ExternalProcessor(Sized):
    """`envoy.service.ext_proc.v3.ExternalProcessor`: one gRPC stream a request, open until the request is over."""

    def __init__(self, make: Callable[[], Exchange], log: AccessLog) -> None:
        self._make = make
        self._log = log
        self._open = 0
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        method = grpc.stream_stream_rpc_method_handler(
            self.process,
            request_deserializer=ProcessingRequest.FromString,
            response_serializer=ProcessingResponse.SerializeToString,
        )
        self.handler = grpc.method_handlers_generic_handler(EXT_PROC, {"Process": method})

    def __len__(self) -> int:
        return self._open

    def stop(self) -> None:
        """End the streams on which nothing is left to say, now and from here on; their responses go on without."""
        if not self._stopping.done():
            self._stopping.set_result(None)

    async def process(self, _requests: Any, context: grpc.aio.ServicerContext) -> None:
        """Follow one request."""
        exchange = self._make()
        self._open += 1
        try:
            while (message := await self._next(exchange, context)) is not grpc.aio.EOF:
                for answer in await exchange.take(message):
                    await context.write(answer)
        finally:
            self._open -= 1
            entry = exchange.close()
            if entry is not None:
                self._log.write(entry)

    async def _next(self, exchange: Exchange, context: grpc.aio.ServicerContext) -> Any:
        if not exchange.finished:
            return await context.read()
        reading = asyncio.ensure_future(context.read())
        try:
            await asyncio.wait((reading, self._stopping), return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else grpc.aio.EOF
        finally:
            reading.cancel()


class HealthChecks:
    """`grpc.health.v1.Health`, Check only (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready
        method = grpc.unary_unary_rpc_method_handler(
            self.check,
            request_deserializer=HealthCheckRequest.FromString,
            response_serializer=HealthCheckResponse.SerializeToString,
        )
        self.handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})

    async def check(self, request: HealthCheckRequest, context: grpc.aio.ServicerContext) -> HealthCheckResponse:
        """Tell whether a service is serving."""
        if request.service not in _CHECKED:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"known: {', '.join(sorted(_CHECKED))}")
        serving = request.service == _LIVENESS or self._ready()
        return HealthCheckResponse(status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)
