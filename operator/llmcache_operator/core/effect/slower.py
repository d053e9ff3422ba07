"""The rule that tells if a token from the server takes longer than computing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.api.cache import Topology
from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.effect.evidence import NOTHING, SAME_SCRAPE
from llmcache_operator.core.effect.reload import costs, rates
from llmcache_operator.core.effect.words import count

if TYPE_CHECKING:
    from llmcache_operator.core.effect.evidence import Evidence
    from llmcache_operator.core.effect.reload import Costs, Rates

RELOAD_STEPS = 3
RELOAD_FACTOR_LATELY = 2.0
RELOAD_FACTOR = 1.25
MANY_STRETCHES = 16
RELOAD_ERRORS = 4.0
FEW_STRETCHES = 8
"""With few stretches, an error is itself not well known: 9 of them are asked for with 7 stretches, 5 with 40."""

MOVE_STEPS = 2
MOVE_FACTOR = 1.5


def slower_than_prefill(evidence: Evidence) -> str | None:
    """Tell if a token from the server takes longer than computing it: by what engines counted, or how requests waited.

    Once told, it stays until it is less than 1.25 times as long (RELOAD_FACTOR).
    """
    if evidence.recent.server_share < NOTHING:
        return None
    moving = _rates_lately(evidence)
    if moving and _slow_to_move(evidence, moving):
        return (
            f"Moving 1,000 tokens from the LMCache server to an engine takes {1000 * moving.reload:.2g} s, computing "
            f"them takes {1000 * moving.compute:.2g} s (measured on {count(moving.reloaded)} and "
            f"{count(moving.computed)} tokens). {_advice(evidence, behind=False)}"
        )
    # There may be a second tier to wait for, too.
    behind = evidence.target.spec.cache.l2 is not None
    found = _waited_for(evidence) if behind or moving is None else None
    if found is None:
        return None
    return (
        f"1,000 tokens from the LMCache server take {1000 * found.reload:.2g} s of a request's time, computing them "
        f"takes {1000 * max(found.compute, 0):.2g} s (from {count(found.reloaded)} and {count(found.computed)} tokens "
        f"in {found.stretches} stretches between scrapes). {_advice(evidence, behind=behind)}"
    )


def _advice(evidence: Evidence, *, behind: bool) -> str:
    """Return what to do; `behind`: it may be the second tier that is slow."""
    shared = evidence.target.spec.cache.topology is Topology.SHARED
    nearer = "Put the server nearer (spec.cache.topology: PerEngine)" if shared else ""
    second = "take an L2 that is nearer or has more CPU" if behind else ""
    more = "give the servers more CPU (spec.cache.cpu), or do without them for this model"
    said = ", ".join(filter(None, (nearer, second, more)))
    return f"Hits cost time. {said[0].upper()}{said[1:]}."


def _lately(evidence: Evidence, steps: int) -> float:
    """Return since when the last so many steps are."""
    return evidence.at - (steps - 1) * evidence.step - SAME_SCRAPE


def _rates_lately(evidence: Evidence) -> Rates | None:
    since = evidence.at - evidence.window.seconds
    return rates(evidence.measurement, since, _lately(evidence, MOVE_STEPS))


def _slow_to_move(evidence: Evidence, found: Rates) -> bool:
    factor = RELOAD_FACTOR if evidence.told is Reason.SLOWER_THAN_PREFILL else MOVE_FACTOR
    return found.part >= NOTHING and found.reload >= factor * found.compute


def _waited_for(evidence: Evidence) -> Costs | None:
    """Return what tokens cost by times to first token, if that is surely slow."""
    lately = _costs_lately(evidence)
    found = _if_slow(lately, RELOAD_FACTOR_LATELY) or _if_slow(
        _costs_lately(evidence, gap=evidence.step), RELOAD_FACTOR_LATELY
    )
    if found is None and (lately is None or not _fast(lately)):
        all_along = costs(evidence.measurement, evidence.at - evidence.window.seconds)
        found = _if_slow(all_along, RELOAD_FACTOR) if all_along and all_along.stretches >= MANY_STRETCHES else None
    if found is None and evidence.told is Reason.SLOWER_THAN_PREFILL and lately and not _fast(lately):
        found = lately
    return found


def _costs_lately(evidence: Evidence, gap: float = 0.0) -> Costs | None:
    """Return what it costs to reload in the last steps; with a gap of a step, in which that changed, left out."""
    since = evidence.at - evidence.window.seconds
    return costs(evidence.measurement, since, _lately(evidence, RELOAD_STEPS), gap)


def _if_slow(found: Costs | None, factor: float) -> Costs | None:
    return found if found and _slow(found, factor) else None


def _slow(found: Costs, factor: float) -> bool:
    errors = RELOAD_ERRORS * (1 + FEW_STRETCHES / found.spare)
    return found.reload >= factor * found.compute > 0 and found.reload - found.compute >= errors * found.error


def _fast(found: Costs) -> bool:
    return found.reload < RELOAD_FACTOR * found.compute
