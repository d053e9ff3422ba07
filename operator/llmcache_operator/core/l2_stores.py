"""Whether LMCache servers store what they should in a volume or a bucket, by their own counts.

No guard stands before these: LMCache writes to them itself, and what fails there it logs and forgets.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.core.conditions import Verdict
from llmcache_operator.core.counts import NOTHING_STORED
from llmcache_operator.core.growth import restarted
from llmcache_operator.core.measured import PATIENCE_SCRAPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llmcache_operator.api.l2 import L2
    from llmcache_operator.core.counts import L2Stores
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import CacheSample
    from llmcache_operator.core.window import Measurement

    Servers = Mapping[str, Sequence[CacheSample]]

_FIELDS = {"fs": "fileSystem", "s3": "s3"}
_ADVICE = {
    "fs": "See whether the volume is full or read-only",
    "s3": "See whether the bucket is there, and whether these credentials may write to it",
}
_ON_THEIR_WAY = 2
"""Scrapes. What was to be stored within them may still be stored."""
_SERVE_ON = "Engines serve on without what it does not hold"


def stores_verdict(target: Target, l2: L2, measurement: Measurement, now: float) -> Verdict | None:
    """Return how the volume and the bucket of a service are, or None where it has neither."""
    tiers = [tier for tier, have in (("fs", l2.file_system), ("s3", l2.s3)) if have]
    if not tiers:
        return None
    oldest = now - PATIENCE_SCRAPES * target.settings.scrape_interval
    servers = {name: samples for name, samples in sorted(measurement.caches.items()) if samples[-1].at > oldest}
    alone = len(tiers) == 1 and l2.valkey is None
    return _given_up(servers) or _failing(tiers, servers, alone=alone) or _well(tiers, len(servers))


def _given_up(servers: Servers) -> Verdict | None:
    """Return whether LMCache has stopped using a tier: it does after three connections that fail."""
    found = {name: told for name, samples in servers.items() if (told := _newest_status(samples).given_up)}
    if not found:
        return None
    name, tiers = next(iter(found.items()))
    # A server beside an engine is named after both.
    pod, _, _ = name.partition("/")
    text = (
        f"{len(found)} of {len(servers)} LMCache servers use {_names(tiers)} no more: LMCache gives up after three "
        f"failed connections, until the server restarts. See whether the store answers again, then delete pods like "
        f"{pod} one by one. {_SERVE_ON}"
    )
    return Verdict(ConditionType.L2_READY, status=False, reason=Reason.L2_GIVEN_UP, message=text)


def _newest_status(samples: Sequence[CacheSample]) -> L2Stores:
    """Return the newest that a server told at /status, which can be missing where its metrics are not."""
    return next((sample.l2 for sample in reversed(samples) if sample.objects is not None), NOTHING_STORED)


def _failing(tiers: Sequence[str], servers: Servers, *, alone: bool) -> Verdict | None:
    found = {name: {tier: lost(tier, samples, alone=alone) for tier in tiers} for name, samples in servers.items()}
    losing = {name: max(chunks.values()) for name, chunks in found.items() if max(chunks.values()) > 0}
    if not losing:
        return None
    name = max(losing, key=lambda name: losing[name])
    # Chunks are counted over all tiers, so more than one may have lost them.
    blamed = [tier for tier, chunks in found[name].items() if chunks > 0]
    text = (
        f"{len(losing)} of {len(servers)} LMCache servers can't store in {_names(blamed)}: {name} lost the last "
        f"{losing[name]:,} chunks. {'. '.join(_ADVICE[tier] for tier in blamed)}; its log has the error. {_SERVE_ON}"
    )
    return Verdict(ConditionType.L2_READY, status=False, reason=Reason.L2_NOT_STORING, message=text)


def _well(tiers: Sequence[str], servers: int) -> Verdict:
    if not servers:
        text = f"No LMCache server has told yet how it gets on with {_names(tiers)}"
        return Verdict(ConditionType.L2_READY, status=None, reason=Reason.NOT_SAMPLED_YET, message=text)
    text = f"No LMCache server, of {servers}, has lost its newest stores in {_names(tiers)}"
    return Verdict(ConditionType.L2_READY, status=True, reason=Reason.AVAILABLE, message=text)


def _names(tiers: Iterable[str]) -> str:
    return " and ".join(_FIELDS[tier] for tier in sorted(tiers))


def lost(tier: str, samples: Sequence[CacheSample], *, alone: bool) -> int:
    """Return how many chunks a server lost since a tier last took some, or 0 where its newest tasks did not all fail.

    LMCache counts tasks by tier, and chunks over all tiers: only of one that is `alone` do they tell which tasks did
    well. Of others, those that wrote something did; one that wrote nothing may have found its chunks there already, but
    then none is missing.
    """
    told = _since_restart(samples)
    steps = list(pairwise(told))
    ended = [at for at, (a, b) in enumerate(steps) if b.ended.get(tier, 0) > a.ended.get(tier, 0)]
    worked = [at for at, (a, b) in enumerate(steps) if _worked(tier, a, b, alone=alone)]
    if not ended or ended[-1] in worked or len(told) <= _ON_THEIR_WAY:
        return 0
    since = told[max(worked, default=-1) + 1]
    return (told[-1 - _ON_THEIR_WAY].submitted - since.submitted) - (told[-1].stored - since.stored)


def _worked(tier: str, before: L2Stores, after: L2Stores, *, alone: bool) -> bool:
    if alone:
        return after.stored > before.stored
    return after.wrote.get(tier, 0) > before.wrote.get(tier, 0)


def _since_restart(samples: Sequence[CacheSample]) -> list[L2Stores]:
    """Return what a server told since it started, with nothing at the start."""
    again = max((at for at, (a, b) in enumerate(pairwise(samples), 1) if restarted(a, b)), default=0)
    return [NOTHING_STORED, *(sample.l2 for sample in samples[again:])]
