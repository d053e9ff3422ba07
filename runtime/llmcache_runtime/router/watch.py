"""Follows the EndpointSlices of a Service: list, then watch, then again, for ever."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import httpx

from llmcache_runtime.router.endpointslices import endpoints
from llmcache_runtime.router.engines import Endpoint
from llmcache_runtime.router.kube import Api

_log = logging.getLogger(__name__)

_WATCH_SECONDS = 300
_TIMEOUT = httpx.Timeout(10.0, read=_WATCH_SECONDS + 30.0)
_MAX_BACKOFF = 5.0


class WatchError(Exception):
    """The API server ended the watch; a new list is needed."""


class EndpointSliceWatch:
    """Calls `on_change` with all endpoints of a Service whenever they change.

    While the API server can't be reached, what was known last goes on being used.
    """

    def __init__(self, api: Api, namespace: str, service: str, on_change: Callable[[list[Endpoint]], None]) -> None:
        self._api = api
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._selector = f"kubernetes.io/service-name={service}"
        self._on_change = on_change
        self._slices: dict[str, dict[str, Any]] = {}

    async def run(self, backoff: float = 0.25) -> None:
        """Follow the Service, for ever."""
        failures = 0
        async with self._api.client() as client:
            while True:
                try:
                    version = await self._list(client)
                    failures = 0
                    while True:
                        version = await self._watch(client, version)
                except (httpx.HTTPError, WatchError, OSError, ValueError, KeyError) as error:
                    failures += 1
                    _log.warning("watching EndpointSlices: %s: %s", type(error).__name__, error)
                    await asyncio.sleep(min(backoff * 2 ** (failures - 1), _MAX_BACKOFF))

    async def _list(self, client: httpx.AsyncClient) -> str:
        response = await client.get(
            self._path, params={"labelSelector": self._selector}, headers=self._api.headers(), timeout=10.0
        )
        response.raise_for_status()
        body = response.json()
        self._slices = {item["metadata"]["name"]: item for item in body["items"]}
        self._on_change(endpoints(self._slices.values()))
        return str(body["metadata"]["resourceVersion"])

    async def _watch(self, client: httpx.AsyncClient, version: str) -> str:
        """Follow changes since `version` until the server ends the watch in good order; give the last version seen."""
        params: dict[str, str | int] = {
            "labelSelector": self._selector,
            "watch": 1,
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": _WATCH_SECONDS,
        }
        headers = self._api.headers()
        async with client.stream("GET", self._path, params=params, headers=headers, timeout=_TIMEOUT) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                event = json.loads(line)
                version = self._take(event["type"], event["object"])
        return version

    def _take(self, kind: str, item: dict[str, Any]) -> str:
        if kind == "ERROR":
            raise WatchError(f"{item.get('code')} {item.get('message')}")
        name = item["metadata"].get("name")
        if kind == "DELETED":
            self._slices.pop(name, None)
        elif kind != "BOOKMARK":
            self._slices[name] = item
        if kind != "BOOKMARK":
            self._on_change(endpoints(self._slices.values()))
        return str(item["metadata"]["resourceVersion"])
