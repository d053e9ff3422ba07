"""Questions to a running Prometheus.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from e2e.cluster.errors import ClusterError

SECONDS = 20.0


@dataclass(frozen=True)
class Series:
    """One time series: its labels, and its samples as Unix times in seconds and values."""

    labels: dict[str, str]
    times: list[float]
    values: list[float]


@dataclass(frozen=True)
class Prometheus:
    """One Prometheus, by its base URL."""

    url: str

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False, timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def targets(self) -> list[dict[str, Any]]:
        """Return every target that it scrapes, with `labels`, `health` and `lastError`."""
        found: list[dict[str, Any]] = self._get("targets", state="active")["activeTargets"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule with `name`, `health` and, of alerts, `state`."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Evaluate an expression over a time; all in seconds. Raises ClusterError with what Prometheus says of it."""
        found = self._get("query_range", query=expression, start=start, end=end, step=step)["result"]
        return [
            Series(one["metric"], [float(at) for at, _ in one["values"]], [float(value) for _, value in one["values"]])
            for one in found
        ]

    def _get(self, what: str, **query: str | float) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=query, trust_env=False, timeout=SECONDS)
        body = answer.json()
        if body["status"] != "success":
            raise ClusterError(f"Prometheus refuses {what} {query}: {body['error']}")
        data: dict[str, Any] = body["data"]
        return data
