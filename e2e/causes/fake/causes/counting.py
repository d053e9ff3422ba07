"""Counters that stand still while requests go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.causes.cause import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.causes.fake.fleet import Fleet

EFFECTIVE, STUCK = "CacheEffective", "CountersStuck"


def _frozen(*families: str) -> Callable[[Fleet], None]:
    def change(fleet: Fleet) -> None:
        for engine in fleet.engines:
            engine.freeze(*families)

    return change


CAUSES: tuple[Cause[Fleet], ...] = (
    Cause(
        "Prompt counters stuck",
        "vllm:prompt_tokens_by_source stands still on all engines while requests end",
        EFFECTIVE,
        STUCK,
        _frozen("vllm:prompt_tokens"),
        _frozen(),
    ),
    Cause(
        "Hit counters stuck",
        "the engines' counters of hits from the server stand still while LMCache counts hits",
        EFFECTIVE,
        STUCK,
        _frozen(
            'vllm:prompt_tokens_by_source_total{engine="0",model_name="chat",source="external_kv_transfer"}',
            "vllm:external_prefix_cache_hits",
        ),
        _frozen(),
    ),
)
