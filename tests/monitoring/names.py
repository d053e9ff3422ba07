"""Which metrics there are, and which ones a PromQL expression names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from llmcache_operator.core import parse
from llmcache_operator.edge.metrics import Metrics as OperatorMetrics
from llmcache_runtime.l2guard.counts import Counts
from llmcache_runtime.l2guard.health import Health
from llmcache_runtime.router.metrics import Metrics as RouterMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/fixtures"
NOT_METRICS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}
SUFFIXES = {"counter": ("_total",), "info": ("_info",), "histogram": ("_bucket", "_sum", "_count")}


def exposed(registry: CollectorRegistry) -> dict[str, str]:
    """Return the metrics of a process of ours, by the name that they are documented under, with their type."""
    families = [family for family in registry.collect() if not family.name.startswith("process_")]
    return {
        family.name + (SUFFIXES[family.type][0] if family.type in ("counter", "info") else ""): family.type
        for family in families
    }


def ours() -> dict[str, str]:
    """Return what operator, router and L2 guard expose."""
    registries = (OperatorMetrics().registry, RouterMetrics().registry, Counts(Health()).registry)
    return {name: kind for registry in registries for name, kind in exposed(registry).items()}


def theirs() -> set[str]:
    """Return every name that vLLM and LMCache were seen to expose, and the one that only comes with an eviction."""
    return {parse.EVICTED} | {
        sample.name
        for file in FIXTURES.glob("*.txt")
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }


def samples() -> set[str]:
    """Return every name that a query may hold."""
    with_suffixes = {f"{name}{suffix}" for name, kind in ours().items() for suffix in _suffixes(kind)}
    return with_suffixes | theirs() | {"up"}


def _suffixes(kind: str) -> Iterator[str]:
    yield from SUFFIXES["histogram"] if kind == "histogram" else ("",)


def named(expression: str) -> set[str]:
    """Return the metrics of an expression: names that are neither labels, nor functions, nor words of PromQL."""
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", expression)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    text = re.sub(r"\boffset\s+\w+", "", text)
    found = re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)\b(?!\s*\()", text)
    return set(found) - NOT_METRICS
