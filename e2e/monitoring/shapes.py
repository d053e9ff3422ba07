"""What panels are made of: their parts, and PromQL about one service.

`$namespace` and `$llmcs` are the dashboard's variables, `$__rate_interval` and `$__range` Grafana's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SERVICE = 'namespace="$namespace", llmcs="$llmcs"'
RATE = "$__rate_interval"
PROMPT = "vllm:prompt_tokens_by_source_total"
PREFILL = "vllm:request_prefill_time_seconds_sum"
COMPUTED, REUSED = 'source="local_compute"', 'source!="local_compute"'
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


def saved(function: str, over: str) -> str:
    """Estimate engine seconds that were not spent: tokens not computed, times what a computed one takes.

    What a computed token takes is all prefill time by all computed tokens: reloads count in, so it is rather too high
    where most tokens come from a cache.
    """
    spared = f"sum({function}({of(PROMPT, REUSED)}[{over}]))"
    spent = f"sum({function}({of(PREFILL)}[{over}]))"
    computed = f"sum({function}({of(PROMPT, COMPUTED)}[{over}]))"
    return f"{spared} * {spent} / ({computed} > 0)"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """Take a quantile of a histogram of the service."""
    return f"histogram_quantile({share}, sum by ({by}le) ({rate(histogram + '_bucket')}))"
