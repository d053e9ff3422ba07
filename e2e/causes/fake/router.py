"""A fake router: what goes through it, as its metrics tell it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Router:
    """Counts requests."""

    requests: int = 0
    up: bool = True

    def page(self, path: str) -> str | None:
        """Return the body of a GET, or None where there is no such page."""
        lines = [
            f'llmcache_router_picks_total{{reason="prefix"}} {self.requests}',
            f'llmcache_router_requests_total{{path="/v1/completions",status="200"}} {self.requests}',
        ]
        pages = {"/metrics": "\n".join(lines) + "\n", "/healthz": "ok", "/readyz": "ok"}
        return pages.get(path)
