"""The few things the operator does to a cluster, as a protocol that tests can stand in for.

`HttpCluster` fulfils it with `kubernetes.aio` at the level of its `ApiClient`: that brings TLS, kubeconfig,
exec plugins and the rotation of service account tokens, and leaves out a thousand model classes, discovery
calls and the discovery cache on disk that its dynamic client needs.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

import aiohttp

from llmcache_operator.edge.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kubernetes.aio.client import ApiClient

    from llmcache_operator.core.values import Json, Kind

CHILD_MANAGER = "llmcache-operator"
STATUS_MANAGER = "llmcache-operator-status"
SERVICE_API = "llmcache.dev/v1alpha1"
LEASE_API = "coordination.k8s.io/v1"

PLURALS = {
    (SERVICE_API, "LLMCacheService"): "llmcacheservices",
    ("apps/v1", "DaemonSet"): "daemonsets",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "Pod"): "pods",
    ("v1", "Secret"): "secrets",
    ("v1", "Service"): "services",
    ("v1", "ServiceAccount"): "serviceaccounts",
    ("rbac.authorization.k8s.io/v1", "Role"): "roles",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "rolebindings",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    ("monitoring.coreos.com/v1", "PodMonitor"): "podmonitors",
    ("inference.networking.k8s.io/v1", "InferencePool"): "inferencepools",
    ("events.k8s.io/v1", "Event"): "events",
    (LEASE_API, "Lease"): "leases",
}

_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)
_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"
# Of one pod; each kind of trouble is one Event that counts up.
_EVENTS = 50

log = logging.getLogger(__name__)


class Cluster(Protocol):
    """Writes to a cluster, and the few reads that no watch serves. Every method raises `ApiError`."""

    async def read(self, obj: Json) -> Json | None:
        """Look for the object that the server holds under this kind and name."""

    async def apply(self, obj: Json) -> Json:
        """Server-side apply, forced, as `CHILD_MANAGER`; the object as the server now holds it."""

    async def apply_status(self, resource: Json, status: Json) -> Json:
        """Server-side apply of `/status`, forced, as `STATUS_MANAGER`, to this very object (by UID)."""

    async def create(self, obj: Json) -> None:
        """Create an object; 409 when one of its name exists."""

    async def delete(self, obj: Json) -> None:
        """Delete exactly this object (by UID), its dependents in the background; absent is fine."""

    async def warnings_about(self, pod: Json) -> list[Json]:
        """Read the Events of type Warning that regard a pod."""

    async def get_lease(self, namespace: str, name: str) -> Json:
        """Read a Lease."""

    async def create_lease(self, lease: Json) -> Json:
        """Create a Lease; 409 when it exists."""

    async def replace_lease(self, lease: Json) -> Json:
        """Replace a Lease; 409 when its resourceVersion is not the current one."""


def path_of(api_version: str, kind: str, namespace: str | None, name: str | None = None) -> str:
    """URL path of a kind in a namespace, or of one object.

    Raises `KeyError` for a kind that the operator has no business with.
    """
    plural = PLURALS[api_version, kind]
    prefix = f"/api/{api_version}" if api_version == "v1" else f"/apis/{api_version}"
    middle = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{prefix}{middle}/{plural}" + (f"/{quote(name, safe='')}" if name else "")


def path_to(obj: Json) -> str:
    """URL path of an object."""
    meta = obj["metadata"]
    return path_of(obj["apiVersion"], obj["kind"], meta["namespace"], meta["name"])


class HttpCluster:
    """A `Cluster` over HTTP.

    `admit` is awaited before each write of children, status and Events; it waits for its turn, and raises
    `ApiError` where no write may happen. Reads are few, and the Lease must not be lost to one's own queue.
    """

    def __init__(self, client: ApiClient, admit: Callable[[], Awaitable[None]]) -> None:
        self._client = client
        self._admit = admit

    async def read(self, obj: Json) -> Json | None:
        """See `Cluster`."""
        try:
            return await self._call("GET", path_to(obj))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def apply(self, obj: Json) -> Json:
        """See `Cluster`."""
        await self._admit()
        query = {"fieldManager": CHILD_MANAGER, "force": "true"}
        return await self._call("PATCH", path_to(obj), obj, query=query, content_type=_APPLY)

    async def apply_status(self, resource: Json, status: Json) -> Json:
        """See `Cluster`."""
        await self._admit()
        meta = resource["metadata"]
        body = {
            "apiVersion": resource["apiVersion"],
            "kind": resource["kind"],
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "status": status,
        }
        query = {"fieldManager": STATUS_MANAGER, "force": "true"}
        return await self._call("PATCH", path_to(resource) + "/status", body, query=query, content_type=_APPLY)

    async def create(self, obj: Json) -> None:
        """See `Cluster`."""
        await self._admit()
        path = path_of(obj["apiVersion"], obj["kind"], obj["metadata"]["namespace"])
        await self._call("POST", path, obj, query={"fieldManager": CHILD_MANAGER})

    async def delete(self, obj: Json) -> None:
        """See `Cluster`."""
        await self._admit()
        body = {"preconditions": {"uid": obj["metadata"]["uid"]}, "propagationPolicy": "Background"}
        try:
            await self._call("DELETE", path_to(obj), body)
        except ApiError as error:
            if error.code != 404:
                raise

    async def warnings_about(self, pod: Json) -> list[Json]:
        """See `Cluster`."""
        meta = pod["metadata"]
        query = {"fieldSelector": f"regarding.uid={meta['uid']},type=Warning", "limit": str(_EVENTS)}
        listed = await self._call("GET", path_of("events.k8s.io/v1", "Event", meta["namespace"]), query=query)
        return list(listed.get("items") or ())

    async def get_lease(self, namespace: str, name: str) -> Json:
        """See `Cluster`."""
        return await self._call("GET", path_of(LEASE_API, "Lease", namespace, name))

    async def create_lease(self, lease: Json) -> Json:
        """See `Cluster`."""
        return await self._call("POST", path_of(LEASE_API, "Lease", lease["metadata"]["namespace"]), lease)

    async def replace_lease(self, lease: Json) -> Json:
        """See `Cluster`."""
        return await self._call("PUT", path_to(lease), lease)

    async def list_versions(self, kind: tuple[str, str], namespace: str | None, label: str) -> dict[str, str]:
        """UIDs and resource versions of the objects with a label, from the server's watch cache."""
        query = {"labelSelector": label, "resourceVersion": "0"}
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        listed = await self._call("GET", path_of(*kind, namespace), query=query, accept=accept)
        metas = (item["metadata"] for item in listed.get("items") or ())
        return {meta["uid"]: meta["resourceVersion"] for meta in metas}

    async def can_list(self, kind: Kind, namespace: str | None) -> bool:
        """Whether the server knows a kind and lets us list it; raises `ApiError` where it says neither."""
        try:
            await self._call("GET", path_of(*kind, namespace), query={"limit": "1"})
        except ApiError as error:
            if error.code == 403:
                log.warning("%s may not be listed, so nothing is done with it: %s", kind[1], error)
            elif error.code != 404:
                raise
            return False
        return True

    async def _call(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Json:
        url = path + ("?" + urlencode(query) if query else "")
        try:
            request = await self._client.param_serialize(
                method,
                url,
                header_params={"Content-Type": content_type, "Accept": accept},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._client.call_api(*request, _request_timeout=_TIMEOUT)
            content: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, OSError) as error:
            why = str(error) or type(error).__name__
            raise ApiError(0, "Unreachable", f"{method} {path}: {why}") from None
        answer = _decode(content)
        if not 200 <= response.status < 300:
            raise ApiError.from_status(response.status, answer, _retry_after(response.headers))
        if not isinstance(answer, dict):
            raise ApiError(0, "Unreadable", f"{method} {path}: the answer is not a JSON object")
        return answer


def _decode(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _retry_after(headers: Any) -> float:
    value = str(headers.get("Retry-After", ""))
    return float(value) if value.isdigit() else 0.0
