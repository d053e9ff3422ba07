"""From EndpointSlices to endpoints; no I/O.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions
"""

from collections.abc import Iterable, Mapping
from typing import Any

from llmcache_runtime.router.engines import Endpoint

_PORT_NAME = "http"


def endpoints(slices: Iterable[Mapping[str, Any]]) -> list[Endpoint]:
    """Merge the slices of a Service. A pod is named by its UID; one that is in two slices counts once."""
    found: dict[str, Endpoint] = {}
    for item in sorted(slices, key=lambda s: (s.get("addressType") != "IPv4", s["metadata"]["name"])):
        port = _port(item)
        if port is None or item.get("addressType") == "FQDN":
            continue
        for endpoint in item.get("endpoints") or ():
            one = _endpoint(endpoint, port)
            if one.id not in found or (one.serving and not found[one.id].serving):
                found[one.id] = one
    return list(found.values())


def _port(item: Mapping[str, Any]) -> int | None:
    ports = item.get("ports") or ()
    chosen = next((p for p in ports if p.get("name") == _PORT_NAME), next(iter(ports), None))
    return None if chosen is None else chosen.get("port")


def _endpoint(endpoint: Mapping[str, Any], port: int) -> Endpoint:
    address = endpoint["addresses"][0]
    target = endpoint.get("targetRef") or {}
    conditions = endpoint.get("conditions") or {}
    # An absent `ready` counts as true, an absent `serving` as `ready`. `ready` alone would lie for a Service that
    # publishes pods that are not ready.
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving", ready)
    return Endpoint(
        id=target.get("uid") or f"{address}:{port}",
        name=target.get("name") or f"{address}:{port}",
        host=address,
        port=port,
        serving=ready if serving is None else serving,
        draining=bool(conditions.get("terminating")),
    )
