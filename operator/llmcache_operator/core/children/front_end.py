"""What the router's pods are to clients: a proxy, or the endpoint picker of a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.api.router import RouterType
from llmcache_operator.core.children import pods
from llmcache_operator.core.children.router_secrets import MountedSecret, secrets

if TYPE_CHECKING:
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import Json

HTTP_PORT = 8000
GRPC_PORT = 9002
"""The port that the endpoint picker protocol takes by default."""


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A program of the router's image, the port that it serves, and how its Service shows that."""

    command: str
    port: int
    port_name: str
    service_port: Json
    secrets: tuple[MountedSecret, ...] = ()


def is_picker(target: Target) -> bool:
    """Whether clients talk to a gateway, and the router to that."""
    return target.spec.router.type is RouterType.ENDPOINT_PICKER


def front_end(target: Target) -> FrontEnd:
    """Return what a service asks for."""
    router = target.spec.router
    if is_picker(target):
        # Without the protocol's name some gateways would talk HTTP/1.1 to it.
        grpc = pods.service_port("grpc", GRPC_PORT, "grpc") | {"appProtocol": "http2"}
        return FrontEnd("llmcache-picker", GRPC_PORT, "grpc", grpc, secrets(router))
    port = pods.service_port("http", 80, "http")
    if router.tls:
        port = pods.service_port("https", 443, "http") | {"appProtocol": "https"}
    return FrontEnd("llmcache-router", HTTP_PORT, "http", port, secrets(router))
