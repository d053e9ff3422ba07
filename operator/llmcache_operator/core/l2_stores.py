"""Whether LMCache servers store what they should in a volume or a bucket, by their own counts.

No guard stands before these: LMCache writes to them itself, and what fails there it logs and forgets.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import ConditionType, Reason
from llmcache_operator.core.conditions import Verdict
from llmcache_operator.core.counts import NOTHING_STORED, L2Stores
from llmcache_operator.core.growth import restarted
from llmcache_operator.core.measured import PATIENCE_SCRAPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import CacheSample
    from llmcache_operator.core.window import Measurement

_FIELDS = {"fs": "fileSystem", "s3": "s3"}
_ADVICE = {
    "fs": "See whether the volume is full or read-only",
    "s3": "See whether the bucket is there, and whether these credentials may write to it",
}
_SERVE_ON = "Engines serve on without what it does not hold"


def stores_verdict(target: Target, measurement: Measurement, now: float) -> Verdict | None:
    """Return how the volume and the bucket of a service are, or None where it has neither."""
    l2 = target.spec.cache.l2
    tiers = [] if l2 is None else [tier for tier, have in (("fs", l2.file_system), ("s3", l2.s3)) if have]
    if not tiers:
        return None
    oldest = now - PATIENCE_SCRAPES * target.settings.scrape_interval
    servers = {name: samples for name, samples in sorted(measurement.caches.items()) if samples[-1].at > oldest}
    troubles = (trouble for tier in tiers for trouble in (_given_up(tier, servers), _failing(tier, servers)))
    return next((trouble for trouble in troubles if trouble), None) or _well(tiers, len(servers))


def _given_up(tier: str, servers: Mapping[str, Sequence[CacheSample]]) -> Verdict | None:
    """Return whether LMCache has stopped using a tier: it does after three connections in a row that fail."""
    names = [name for name, samples in servers.items() if tier in samples[-1].l2.given_up]
    if not names:
        return None
    # A server beside an engine is named after both.
    pod, _, _ = names[0].partition("/")
    text = (
        f"{len(names)} of {len(servers)} LMCache servers use {_FIELDS[tier]} no more: LMCache gives up after three "
        f"failed connections in a row, until the server restarts. See whether the store answers again, then delete "
        f"pods like {pod} one by one. {_SERVE_ON}"
    )
    return Verdict(ConditionType.L2_READY, status=False, reason=Reason.L2_GIVEN_UP, message=text)


def _failing(tier: str, servers: Mapping[str, Sequence[CacheSample]]) -> Verdict | None:
    found = {name: chunks for name, samples in servers.items() if (chunks := lost(tier, samples)) > 0}
    if not found:
        return None
    name = max(found, key=lambda name: found[name])
    text = (
        f"{len(found)} of {len(servers)} LMCache servers can't store in {_FIELDS[tier]}: {name} lost the last "
        f"{found[name]:,} chunks. {_ADVICE[tier]}; its log has the error. {_SERVE_ON}"
    )
    return Verdict(ConditionType.L2_READY, status=False, reason=Reason.L2_NOT_STORING, message=text)


def _well(tiers: Sequence[str], servers: int) -> Verdict:
    names = " and ".join(_FIELDS[tier] for tier in tiers)
    if not servers:
        text = f"No LMCache server has told yet how it gets on with {names}"
        return Verdict(ConditionType.L2_READY, status=None, reason=Reason.NOT_SAMPLED_YET, message=text)
    text = f"No store of {servers} LMCache servers in {names} failed of late"
    return Verdict(ConditionType.L2_READY, status=True, reason=Reason.AVAILABLE, message=text)


def lost(tier: str, samples: Sequence[CacheSample]) -> int:
    """Return how many chunks a server lost since a tier last took one, or 0 where its newest tasks did not all fail.

    LMCache counts tasks by tier, and chunks over all of them. A task that wrote nothing may have found its chunks there
    already; then no chunk was lost.
    """
    told = _since_restart(samples)
    steps = list(pairwise(told))
    ended = [at for at, (a, b) in enumerate(steps) if b.ended.get(tier, 0) > a.ended.get(tier, 0)]
    wrote = [at for at, (a, b) in enumerate(steps) if b.wrote.get(tier, 0) > a.wrote.get(tier, 0)]
    if not ended or ended[-1] in wrote:
        return 0
    since = told[max(wrote, default=-1) + 1]
    # What was submitted since the scrape before may be on its way.
    return (told[-2].submitted - since.submitted) - (told[-1].stored - since.stored)


def _since_restart(samples: Sequence[CacheSample]) -> list[L2Stores]:
    """Return what a server told since it started, with nothing at the start."""
    again = max((at for at, (a, b) in enumerate(pairwise(samples), 1) if restarted(a, b)), default=0)
    return [NOTHING_STORED, *(sample.l2 for sample in samples[again:])]
