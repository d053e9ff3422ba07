"""Whether pods still use what the spec no longer asks for: it goes once they don't."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.target import COMPONENT_LABEL, Component

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmcache_operator.core.values import Json

_ADDRESSES = {Component.CACHE_SERVER.value: 'tcp://{}"', Component.VALKEY.value: "{}:6379"}


def in_use(obj: Json, pods: Iterable[Json]) -> bool:
    """Whether a pod names the LMCache server or the Valkey that an object belongs to: as what it has to reach."""
    address = _ADDRESSES.get(obj["metadata"].get("labels", {}).get(COMPONENT_LABEL))
    if address is None:
        return False
    named = address.format(obj["metadata"]["name"])
    return any(named in argument for pod in pods for argument in _arguments(pod))


def _arguments(pod: Json) -> Iterable[str]:
    spec = pod.get("spec", {})
    for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
        yield from container.get("args", ())
