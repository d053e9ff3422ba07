"""One LLMCacheService as the builders see it: its spec, parsed, with names and labels for its children."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from llmcache_operator.api.cache import Topology
from llmcache_operator.api.service import API_VERSION, GROUP, KIND

if TYPE_CHECKING:
    from llmcache_operator.api.l2 import ManagedValkey
    from llmcache_operator.api.spec import ServiceSpec
    from llmcache_operator.core.values import Json, ServiceKey, Settings

MANAGED_BY = "llmcache-operator"
SERVICE_LABEL = f"{GROUP}/service"
TOPOLOGY_LABEL = f"{GROUP}/topology"
COMPONENT_LABEL = "app.kubernetes.io/component"


class Component(StrEnum):
    """The kinds of pods."""

    ENGINE = "engine"
    CACHE_SERVER = "cache-server"
    ROUTER = "router"
    VALKEY = "valkey"


_SUFFIX = {
    Component.ENGINE: "engine",
    Component.CACHE_SERVER: "cache",
    Component.ROUTER: "router",
    Component.VALKEY: "valkey",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What to build children for."""

    key: ServiceKey
    uid: str
    spec: ServiceSpec
    settings: Settings

    @property
    def components(self) -> tuple[Component, ...]:
        """The kinds of pods that this service has."""
        absent = set()
        if self.spec.cache.topology is Topology.PER_ENGINE:
            absent.add(Component.CACHE_SERVER)
        if self.managed_valkey is None:
            absent.add(Component.VALKEY)
        return tuple(kind for kind in Component if kind not in absent)

    @property
    def managed_valkey(self) -> ManagedValkey | None:
        """The Valkey that the service runs itself, if it has one."""
        l2 = self.spec.cache.l2
        return l2.valkey.managed if l2 and l2.valkey else None

    @property
    def engine_image(self) -> str:
        """Image of the engines."""
        return self.spec.engine.image or self.settings.engine_image

    @property
    def cache_server_image(self) -> str:
        """Image of the LMCache server."""
        return self.spec.cache.image or self.settings.cache_server_image

    @property
    def served_name(self) -> str:
        """What clients send as `model`."""
        return self.spec.model.served_name or self.key.name

    def name(self, component: Component) -> str:
        """Name of the children of one component.

        Servers on each node have another than the one for all: a Service can't become headless, nor cease to be.
        """
        on_nodes = component is Component.CACHE_SERVER and self.spec.cache.topology is Topology.NODE_LOCAL
        return f"{self.key.name}-{'node-cache' if on_nodes else _SUFFIX[component]}"

    def selector(self, component: Component) -> dict[str, str]:
        """Labels that select the pods of one component. Immutable in a Deployment: never add to them."""
        return {SERVICE_LABEL: self.key.name, COMPONENT_LABEL: component.value}

    def own_selector(self, component: Component) -> dict[str, str]:
        """Labels that leave out the pods of another topology, of which there are some while it changes."""
        on_its_own = component is Component.CACHE_SERVER
        return self.selector(component) | ({TOPOLOGY_LABEL: self.spec.cache.topology.value} if on_its_own else {})

    def labels(self, component: Component) -> dict[str, str]:
        """All labels of a child.

        `instance` differs from the resource's own name, because Argo CD in label mode would take a child whose
        instance label equals an application's name for a part of that application, and prune it.
        """
        return self.own_selector(component) | {
            "app.kubernetes.io/name": "llmcache",
            "app.kubernetes.io/instance": f"llmcs-{self.key.name}",
            "app.kubernetes.io/part-of": "llmcache",
            "app.kubernetes.io/managed-by": MANAGED_BY,
        }

    def metadata(self, component: Component) -> Json:
        """Metadata of a child: deterministic name, labels, and the owner that garbage collection follows."""
        return {
            "name": self.name(component),
            "namespace": self.key.namespace,
            "labels": self.labels(component),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": self.key.name,
                    "uid": self.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
