"""Who may talk to whom.

The MP port of the LMCache server unpickles what it is sent and its HTTP port can clear the cache, both without a
password (lmcache 0.5.6), so the network is where they are guarded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.api.fields import Switch
from llmcache_operator.core.children import engine, l2, router, server, valkey
from llmcache_operator.core.children.front_end import front_end, is_picker
from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json


def build(target: Target) -> tuple[Json, ...]:
    """Return one NetworkPolicy for each kind of pods, or none where the user does without.

    A server may be in a pod of its own or in an engine's, where its MP port listens on the loopback address only. What
    is allowed fits both, since there are pods of both kinds while the topology changes.
    """
    if target.spec.network_policy is Switch.DISABLED:
        return ()
    watchers = _watchers(target)
    engines, routers = _pods(target, Component.ENGINE), _pods(target, Component.ROUTER)
    servers = _pods(target, Component.CACHE_SERVER)
    clients = _namespace(target.spec.router.gateway_namespace)
    guarded = [_allow(watchers, l2.GUARD_HTTP_PORT)] if l2.guarded(target) else []
    watched = [_allow(watchers, server.HTTP_PORT), *guarded]
    ingress = {
        # Engines ask its status whether it knows them.
        Component.CACHE_SERVER: [_allow([engines], server.MP_PORT), _allow([engines], server.HTTP_PORT), *watched],
        Component.ENGINE: [
            _allow([routers, *watchers], engine.HTTP_PORT),
            *([_allow(clients, engine.HTTP_PORT)] if is_picker(target) else []),
            *watched,
        ],
        Component.ROUTER: [_allow(clients, front_end(target).port), _allow(watchers, router.PRIVATE_PORT)],
        Component.VALKEY: [_allow([engines, servers], valkey.PORT)],
    }
    return tuple(_policy(target, component, ingress[component]) for component in target.components)


def _policy(target: Target, component: Component, ingress: list[Json]) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": target.metadata(component),
        "spec": {
            "podSelector": {"matchLabels": target.selector(component)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }


def _allow(peers: list[Json], port: int) -> Json:
    """Allow some peers, or everybody where none is named, to reach one port."""
    rule: Json = {"ports": [{"port": port, "protocol": "TCP"}]}
    return rule | ({"from": peers} if peers else {})


def _pods(target: Target, component: Component) -> Json:
    return {"podSelector": {"matchLabels": target.selector(component)}}


def _watchers(target: Target) -> list[Json]:
    """Return the operator and, where there is one, the scraper: those who may read metrics."""
    settings = target.settings
    peers: list[Json] = [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.operator_namespace}},
            "podSelector": {"matchLabels": dict(settings.operator_labels)},
        }
    ]
    return [*peers, *_namespace(settings.scraper_namespace)]


def _namespace(name: str | None) -> list[Json]:
    return [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}] if name else []
