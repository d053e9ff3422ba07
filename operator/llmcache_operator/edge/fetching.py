"""HTTP GET of something that may be slow, huge or broken, at a bounded cost."""

from __future__ import annotations

import asyncio

import httpx

TIME_LIMIT = 3.0
"""Seconds for everything: connect, headers and the last byte of the body."""

BODY_LIMIT = 4 * 2**20
"""Bytes of a body; vLLM's /metrics is under 200 KiB."""

AT_ONCE = 16


class FetchError(Exception):
    """What was wrong, with the URL, in words for a person."""


def client() -> httpx.AsyncClient:
    """Make a client without proxies, redirects or credentials: it talks to pods only."""
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)
    return httpx.AsyncClient(timeout=TIME_LIMIT, trust_env=False, follow_redirects=False, limits=limits)


async def fetch(http: httpx.AsyncClient, url: str) -> str:
    """Return the body of a 200 answer as text.

    Raises `FetchError`.
    """
    try:
        async with asyncio.timeout(TIME_LIMIT), http.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise FetchError(f"{url} answered {response.status_code}")
            return (await _read(response, url)).decode("utf-8", errors="replace")
    except (TimeoutError, httpx.TimeoutException):
        raise FetchError(f"{url} took longer than {TIME_LIMIT:.0f} s") from None
    except httpx.HTTPError as error:
        raise FetchError(f"{url}: {error or type(error).__name__}") from None


async def _read(response: httpx.Response, url: str) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise FetchError(f"{url} answered more than {BODY_LIMIT // 2**20} MiB")
    return bytes(body)
