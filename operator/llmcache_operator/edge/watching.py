"""Watches: kopf lists and streams, indexes hold, events enqueue. Nothing here writes to the cluster.

Only `@kopf.index` and `@kopf.on.event` are used: every other kind of kopf handler puts annotations or
finalizers on the user's object. kopf updates an index before it calls handlers, and calls none before all
kinds are listed, so a reconcile never starts from a half-filled index.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import kopf

from llmcache_operator.core.children.inference_pool import INFERENCE_POOL
from llmcache_operator.core.children.monitoring import POD_MONITOR
from llmcache_operator.core.values import Json, Kind, ServiceKey
from llmcache_operator.edge import credentials
from llmcache_operator.edge.cluster import PLURALS, SERVICE_API
from llmcache_operator.edge.memory import ref_of, trimmed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from llmcache_operator.edge.workqueue import WorkQueue

MANAGED = "app.kubernetes.io/managed-by=llmcache-operator"
SERVICE_LABEL = "llmcache.dev/service"
GROUP = SERVICE_API.split("/", maxsplit=1)[0]
SERVICE = (SERVICE_API, "LLMCacheService")
POD = ("v1", "Pod")
CHILDREN = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
)
OPTIONAL = (POD_MONITOR, INFERENCE_POOL)
"""Kinds of children that not every cluster has: `discovery` finds out."""


def watched(optional: Iterable[Kind] = ()) -> dict[Kind, str]:
    """Return every kind that is watched, with the label selector of its watch."""
    return {SERVICE: "", **dict.fromkeys((*CHILDREN, *optional, POD), MANAGED)}


class WatchEndedError(Exception):
    """Kopf gave up watching, for a reason that it told in the log."""


class Watches:
    """The cluster as the watches show it; fulfils `reconcile.View`.

    `kinds` are those to watch, as `watched` gives them. `synced` is set once every kind has been listed and the first
    object has come by.
    """

    def __init__(self, queue: WorkQueue, kinds: Mapping[Kind, str]) -> None:
        self._kinds = kinds
        self.synced = asyncio.Event()
        self._queue = queue
        self._services: Mapping[Any, Iterable[Json]] = {}
        self._children: Mapping[Any, Iterable[Json]] = {}
        self._pods: Mapping[Any, Iterable[Json]] = {}

    def keys(self) -> list[ServiceKey]:
        """Name every service."""
        return sorted(self._services)

    def service(self, key: ServiceKey) -> Json | None:
        """See `View`."""
        return next(iter(self._services.get(key, ())), None)

    def children(self, uid: str) -> tuple[Json, ...]:
        """See `View`."""
        return tuple(sorted(self._children.get(uid, ()), key=ref_of))

    def pods(self, key: ServiceKey) -> tuple[Json, ...]:
        """See `View`."""
        return tuple(sorted(self._pods.get(key, ()), key=lambda pod: str(pod["metadata"]["name"])))

    def versions(self, kind: Kind) -> dict[str, str]:
        """UIDs and resource versions of the indexed objects of a kind."""
        index = {SERVICE: self._services, POD: self._pods}.get(kind, self._children)
        objects = (obj for store in list(index.values()) for obj in store)
        metas = (obj["metadata"] for obj in objects if (obj["apiVersion"], obj["kind"]) == kind)
        return {meta["uid"]: meta["resourceVersion"] for meta in metas}

    async def run(self, namespaces: tuple[str, ...]) -> None:
        """Watch these namespaces, or all when there are none, until SIGTERM or SIGINT, which kopf takes over.

        Kopf's stop flag is left alone: after a signal it waits five seconds for its own waiter of that flag.
        Raises `WatchEndedError`.
        """
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=watch_settings(self._kinds),
                clusterwide=not namespaces,
                namespaces=namespaces,
            )
        except Exception as error:  # kopf gives up for reasons of many types
            raise WatchEndedError(str(error.args[0] if error.args else error)) from error

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="login")(_log_in)
        kopf.on.startup(registry=registry, id="adopt")(self._adopt)
        for kind in self._kinds:
            index, fn = {SERVICE: ("services", _index_service), POD: ("pods", _index_pod)}.get(
                kind, ("children", _index_child)
            )
            group, version, plural = selector(kind)
            kopf.index(registry=registry, id=index, group=group, version=version, plural=plural)(fn)
            kopf.on.event(registry=registry, id="enqueue", group=group, version=version, plural=plural)(self._enqueue)
        return registry

    async def _adopt(self, **known: Any) -> None:
        """Take hold of kopf's read-only live indexes, which it offers to handlers only."""
        self._services, self._children, self._pods = known["services"], known["children"], known["pods"]

    async def _enqueue(self, *, body: Any, **_: Any) -> None:
        self.synced.set()
        for key in set(keys_of(body)):
            self._queue.add(key)


def selector(kind: Kind) -> tuple[str, str, str]:
    """Name a kind to kopf: group, version and plural."""
    group, _, version = kind[0].rpartition("/")
    return group, version, PLURALS[kind]


def watch_settings(kinds: Mapping[Kind, str]) -> kopf.OperatorSettings:
    """Set kopf up: no writes, no peering, no discovery of namespaces, and no stream that dies unseen."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    for kind, label in kinds.items():
        if label:
            settings.watching.label_selectors[selector(kind)] = label
    return settings


def keys_of(body: Mapping[str, Any]) -> Iterator[ServiceKey]:
    """Name the services that an object belongs to: by itself, by owner, or by label when that was torn off."""
    meta = body["metadata"]
    namespace = meta["namespace"]
    if (body["apiVersion"], body["kind"]) == SERVICE:
        yield ServiceKey(namespace, meta["name"])
        return
    owner = owner_of(body)
    if owner:
        yield ServiceKey(namespace, owner["name"])
    if label := (meta.get("labels") or {}).get(SERVICE_LABEL):
        yield ServiceKey(namespace, label)


def owner_of(body: Mapping[str, Any]) -> Json | None:
    """Return the owner reference to the LLMCacheService that controls an object, if one does."""
    for reference in body["metadata"].get("ownerReferences") or ():
        of_ours = reference["kind"] == SERVICE[1] and reference["apiVersion"].startswith(f"{GROUP}/")
        if reference.get("controller") and of_ours:
            return dict(reference)
    return None


async def _log_in(**_: Any) -> kopf.ConnectionInfo:
    try:
        return await credentials.for_kopf()
    except credentials.CredentialsError as error:
        raise kopf.PermanentError(str(error)) from None


async def _index_service(*, body: Any, **_: Any) -> dict[ServiceKey, Json]:
    return {ServiceKey(body["metadata"]["namespace"], body["metadata"]["name"]): trimmed(dict(body))}


# An index forgets an object for an empty dict; for None, kopf would keep what it had.
async def _index_child(*, body: Any, **_: Any) -> dict[str, Json]:
    owner = owner_of(body)
    return {owner["uid"]: trimmed(dict(body))} if owner else {}


async def _index_pod(*, body: Any, **_: Any) -> dict[ServiceKey, Json]:
    label = (body["metadata"].get("labels") or {}).get(SERVICE_LABEL)
    return {ServiceKey(body["metadata"]["namespace"], label): trimmed(dict(body))} if label else {}
