"""What a self-test ends with: one result from what each pair of engines did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.values import SelfTestResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmcache_operator.core.values import Json, SelfTest

ENOUGH = 3
"""Pairs that fail before the rest need not be asked."""

_WORST_FIRST = (Reason.WRONG_KV, Reason.NOTHING_SHARED, Reason.PROBE_FAILED)


@dataclass(frozen=True, slots=True)
class PairFinding:
    """What came of one pair of pods, by name: VERIFIED, or another reason with what was seen."""

    writer: str
    reader: str
    reason: Reason
    detail: str = ""


def ring(engines: Sequence[Json]) -> list[tuple[Json, Json]]:
    """Return pairs in which each engine writes once and reads once."""
    return list(zip(engines, [*engines[1:], *engines[:1]], strict=True))


def is_enough(findings: Sequence[PairFinding]) -> bool:
    """Whether what was found so far tells what there is to tell."""
    return sum(finding.reason in _WORST_FIRST for finding in findings) >= ENOUGH


def conclusion(test: SelfTest, findings: Sequence[PairFinding], at: float) -> SelfTestResult:
    """Return the result. A test that found all engines busy tells nothing new."""
    verified = [finding for finding in findings if finding.reason is Reason.VERIFIED]
    worst = next((bad for kind in _WORST_FIRST if (bad := [f for f in findings if f.reason is kind])), None)
    if worst is None and not verified:
        return test.last or SelfTestResult(at, test.fleet, Reason.SATURATED, "Requests wait on the engines", 1)
    if worst is None:
        total = len(findings) + test.left_out
        text = f"{len(verified)} of {total} engines took KV that another computed, and answered as without it"
        complete = len(verified) == total
        return SelfTestResult(
            at, test.fleet, Reason.VERIFIED, text + ("" if complete else "; the rest was busy"), 0, complete
        )
    return SelfTestResult(at, test.fleet, worst[0].reason, _told(worst), test.failures + 1)


def _told(findings: Sequence[PairFinding]) -> str:
    """Tell the first pair, and who is in all of them if there are several."""
    first, *others = findings
    if not others:
        return first.detail
    seen = Counter(name for finding in findings for name in (finding.writer, finding.reader))
    common = sorted(name for name, count in seen.items() if count == len(findings))
    if len(common) == 1:
        return f"{first.detail} All {len(findings)} pairs that fail have {common[0]} in them: look at this pod first."
    return f"{first.detail} The same goes for {len(others)} more {'pairs' if others[1:] else 'pair'} of engines."
