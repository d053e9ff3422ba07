"""Pairs of vLLM and LMCache versions that are known to work together, or not to. Every row has its source and date.

The versions are those of the engines (vLLM's /version) and of the LMCache server (its /lmc_version). What no row is
about is untested, not bad. Add a row for what you have tried, with what happened.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """Versions from `..._from` (included) to `..._below` (excluded; None: no end), whether they work, and who says so.

    `what` is a sentence for people; `source` an issue or pull request upstream, or a test of this project;
    `date` when it was said or run.
    """

    vllm_from: str
    vllm_below: str | None
    lmcache_from: str
    lmcache_below: str | None
    good: bool
    what: str
    source: str
    date: str


PAIRS: tuple[Pair, ...] = (
    Pair(
        "0.32.0", "0.32.1", "0.5.6", "0.5.7", good=True,
        what="Tested together: sharing, restarts, evictions, hit rates.",
        source="this project's end-to-end tests, on CPUs", date="2026-11-24",
    ),
    Pair(
        "0", "0.23.0", "0.5.0", None, good=False,
        what="LMCacheMPConnector of LMCache 0.5 needs what vLLM has from 0.23 on: engines don't start.",
        source="github.com/LMCache/LMCache/issues/3957, also 4134 and 4267", date="2026-06-30",
    ),
    Pair(
        "0.20.0", "0.21.0", "0", "0.5.0", good=False,
        what="vLLM 0.20 has KV formats that LMCache's multi-process mode did not know: every retrieval fails.",
        source="github.com/ai-dynamo/dynamo/pull/9982, cured by github.com/LMCache/LMCache/pull/3282",
        date="2026-05-27",
    ),
    Pair(
        "0.15.0", "0.16.0", "0", "0.3.9", good=False,
        what="LMCache imports but its connector fails at run time.",
        source="github.com/vllm-project/vllm/pull/33440", date="2026-01-30",
    ),
    Pair(
        "0.9.2", "0.10.0", "0", "0.3.2", good=False,
        what="Engines crash on the first request.",
        source="github.com/LMCache/LMCache/issues/1003", date="2025-07-09",
    ),
    Pair(
        "0.32.0", None, "0", "0.5.0", good=False,
        what=(
            "LMCache's processes don't understand each other across releases: engines of vLLM 0.32 come with LMCache "
            "0.5, whose workers an older server does not register, so every look-up misses without an error."
        ),
        source="github.com/vllm-project/production-stack/pull/1060", date="2026-08-28",
    ),
)  # fmt: skip
