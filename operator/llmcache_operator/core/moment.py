"""Kubernetes timestamps as seconds."""

from __future__ import annotations

from datetime import datetime


def seconds(timestamp: str) -> float:
    """Return an RFC 3339 timestamp in seconds since the epoch."""
    return datetime.fromisoformat(timestamp).timestamp()


def age(timestamp: str | None, now: float) -> float:
    """Return how many seconds ago a timestamp was; 0 where there is none."""
    return now - seconds(timestamp) if timestamp else 0.0
