"""HTTP requests to something that may be slow, huge or broken, at a bounded cost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

TIME_LIMIT = 3.0
"""Seconds for everything: connect, headers and the last byte of the body."""

BODY_LIMIT = 4 * 2**20
"""Bytes of a body; vLLM's /metrics is under 200 KiB."""

ERROR_SHOWN = 300
"""Characters of an error's body that a message carries."""

AT_ONCE = 16


class FetchError(Exception):
    """What was wrong, with the URL, in words for a person."""


def client() -> httpx.AsyncClient:
    """Make a client without proxies, redirects or credentials: it talks to pods only."""
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)
    return httpx.AsyncClient(timeout=TIME_LIMIT, trust_env=False, follow_redirects=False, limits=limits)


async def fetch(http: httpx.AsyncClient, url: str) -> str:
    """GET; return the body of a 200 answer as text.

    Raises `FetchError`.
    """
    return await _send(http, http.build_request("GET", url), TIME_LIMIT)


async def post(http: httpx.AsyncClient, url: str, body: Json, seconds: float) -> str:
    """POST JSON; return the body of a 200 answer that came within so many seconds as text.

    Raises `FetchError`, which says how the answer begins if it is another.
    """
    return await _send(http, http.build_request("POST", url, json=body, timeout=seconds), seconds, shown=ERROR_SHOWN)


async def _send(http: httpx.AsyncClient, request: httpx.Request, seconds: float, *, shown: int = 0) -> str:
    url = request.url
    try:
        async with asyncio.timeout(seconds):
            response = await http.send(request, stream=True)
            try:
                text = (await _read(response, str(url))).decode("utf-8", errors="replace")
            finally:
                await response.aclose()
    except (TimeoutError, httpx.TimeoutException):
        raise FetchError(f"{url} took longer than {seconds:.0f} s") from None
    except httpx.HTTPError as error:
        raise FetchError(f"{url}: {error or type(error).__name__}") from None
    if response.status_code != httpx.codes.OK:
        raise FetchError(f"{url} answered {response.status_code} {text[:shown]}".rstrip())
    return text


async def _read(response: httpx.Response, url: str) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise FetchError(f"{url} answered more than {BODY_LIMIT // 2**20} MiB")
    return bytes(body)
