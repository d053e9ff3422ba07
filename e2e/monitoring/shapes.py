"""What panels are made of: their parts, and PromQL about one service.

`$namespace` and `$llmcs` are the dashboard's variables, `$__rate_interval` and `$__range` Grafana's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SERVICE = 'namespace="$namespace", llmcs="$llmcs"'
RATE = "$__rate_interval"
PROMPT = "vllm:prompt_tokens_by_source_total"
REUSED = 'source!="local_compute"'
HOLDS, FAILS = 'status="True"', 'status="False"'
SOURCES = {
    "local_compute": "computed",
    "local_cache_hit": "engine's own cache",
    "external_kv_transfer": "LMCache server",
}


class Look(StrEnum):
    """How a panel shows its numbers."""

    STAT = "stat"
    LINES = "lines"
    STACK = "stack"
    STATES = "states"
    TABLE = "table"


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the legend of its series, in which {{label}} is filled in."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. `width` is in 24ths of the page, `unit` one of Grafana's."""

    title: str
    what: str
    look: Look
    unit: str
    width: int
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Section:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def of(metric: str, *more: str) -> str:
    """Select a metric of the service."""
    return f"{metric}{{{', '.join((SERVICE, *more))}}}"


def rate(metric: str, *more: str, over: str = RATE) -> str:
    """Take a counter's rate."""
    return f"rate({of(metric, *more)}[{over}])"


def prompt_from(source: str) -> str:
    """Take the rate of prompt tokens from one source."""
    return rate(PROMPT, f'source="{source}"')


def quantile(share: float, histogram: str, by: str = "") -> str:
    """Take a quantile of a histogram of the service."""
    return f"histogram_quantile({share}, sum by ({by}le) ({rate(histogram + '_bucket')}))"
