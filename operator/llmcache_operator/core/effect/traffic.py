"""Rules: what the traffic makes of a cache that works."""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import Reason
from llmcache_operator.api.router import Policy
from llmcache_operator.core.effect.evidence import ENOUGH_REQUESTS, NOTHING, SAME_SCRAPE, part
from llmcache_operator.core.effect.words import count, percent, size, span
from llmcache_operator.core.growth import restarted
from llmcache_operator.core.quantity import GIBI
from llmcache_operator.core.sizing import sizing, tokens_wanted

if TYPE_CHECKING:
    from llmcache_operator.core.effect.evidence import Evidence, Traffic
    from llmcache_operator.core.sizing import Sizing

STUCK_TOKENS = 1000
STUCK_SHARE = 0.05

SHORT_SHARE = 0.8
WHOLE_CHUNKS = 0.5

SCATTERED_TOKENS = 0.1
SCATTERED_HITS = 0.2
PAST_ROUTER = 0.2
MANY = 2
BLIND_POLICIES = (Policy.ROUND_ROBIN, Policy.LEAST_LOADED)

EVICTED_SHARE = 0.5
FOUND_SHARE = 0.2
LOST_SHARE = 0.1
LEAST_CHUNKS = 4

REUSED = 0.03
REUSE_SECONDS = 30.0
REUSE_REQUESTS = 12


def counters_stuck(evidence: Evidence) -> str | None:
    """Tell if numbers that move together don't."""
    seen = evidence.recent
    engines = seen.engines
    if min(engines.served, engines.ended) < ENOUGH_REQUESTS:
        return None
    stuck = None
    if not engines.total:
        stuck = f"engines answered {count(engines.served)} requests but counted no prompt tokens"
    elif _apart(engines.prompt_tokens, engines.total):
        stuck = (
            f"engines counted {count(engines.prompt_tokens)} prompt tokens in all, but {count(engines.total)} by source"
        )
    elif engines.own_found >= STUCK_TOKENS and not engines.engine_hits:
        stuck = f"engines found {count(engines.own_found)} tokens in their own caches but counted none from there"
    elif engines.server_found >= STUCK_TOKENS and not engines.server_hits:
        stuck = f"engines took {count(engines.server_found)} tokens from the server but counted none from there"
    elif seen.caches.found >= STUCK_TOKENS and not engines.hits:
        stuck = f"the LMCache server found {count(seen.caches.found)} tokens, but engines counted no hits"
    return stuck and (
        f"Counters stand still: {stuck}, in the last {span(seen.seconds)}. So the rates in status.cache are wrong. "
        "Restart the engines (kubectl rollout restart); if it stays, VersionsCompatible may say why."
    )


def _apart(one: float, other: float) -> bool:
    return one > 0 and abs(one - other) > max(STUCK_TOKENS, STUCK_SHARE * max(one, other))


def too_short_prompts(evidence: Evidence) -> str | None:
    """Tell if most prompts have no whole chunk, and nothing comes from the server."""
    seen, chunk = evidence.recent, evidence.target.spec.cache.chunk_size
    short = part(seen.engines.short, seen.engines.ended)
    in_chunks = part(seen.caches.asked, seen.engines.total)
    if seen.engines.ended < ENOUGH_REQUESTS or seen.server_share >= NOTHING or in_chunks >= WHOLE_CHUNKS:
        return None
    mean = seen.engines.total / max(1.0, seen.engines.served)
    unasked = bool(seen.caches.lookups) and not seen.caches.asked and mean < chunk
    if short < SHORT_SHARE and not unasked:
        return None
    told = f"{percent(short)} of {count(seen.engines.ended)} prompts" if short >= SHORT_SHARE else "All prompts"
    return (
        f"{told} in the last {span(seen.seconds)} are shorter than a chunk of {chunk} tokens, and only whole chunks "
        "are cached. Set spec.cache.chunkSize to 64 or 32 if prompts share beginnings of that length; else this "
        "traffic needs no LMCache server."
    )


def router_scatters(evidence: Evidence) -> str | None:
    """Tell if turns of a conversation go to engines that don't hold it, where the routing is to blame."""
    seen = evidence.recent
    fetched = part(seen.engines.server_hits, seen.engines.hits)
    if len(evidence.engines) < MANY or seen.server_share < SCATTERED_TOKENS or fetched < SCATTERED_HITS:
        return None
    cause = _blind_policy(evidence) or _past_the_router(evidence, seen)
    return cause and (
        f"{cause} In the last {span(seen.seconds)}, {percent(seen.server_share)} of the prompt tokens were fetched "
        "from the LMCache server, much of which an engine held already."
    )


def _blind_policy(evidence: Evidence) -> str | None:
    policy = evidence.target.spec.router.policy
    if policy not in BLIND_POLICIES:
        return None
    return f"The policy {policy.value} sends turns of a conversation anywhere. Set spec.router.policy to PrefixAware."


def _past_the_router(evidence: Evidence, seen: Traffic) -> str | None:
    past = part(seen.engines.served - seen.routers.picks, seen.engines.served)
    long_enough = (span for span in evidence.spans if span.seconds >= seen.seconds)
    if past < PAST_ROUTER or not any(_surely_past(evidence, span) for span in long_enough):
        return None
    return f"{percent(past)} of the requests came past the router. Let clients send to status.url."


def _surely_past(evidence: Evidence, seen: Traffic) -> bool:
    """Whether engines began more than routers sent them, and more than had waited before: a busy engine lags."""
    past = seen.engines.served - seen.routers.picks - seen.backlog
    return part(past, seen.engines.served) >= PAST_ROUTER and _routers_stay(evidence, seen)


def _routers_stay(evidence: Evidence, seen: Traffic) -> bool:
    """Whether the same routers were there all the time: what one counted that came or went is not known."""
    since, fresh = evidence.at - seen.seconds, evidence.at - 1.5 * evidence.step
    lost = evidence.measurement.failures
    # One that was measured last before that time, and of which no failure is told, had left.
    routers = [s for s in evidence.measurement.routers.values() if s[-1].at > since or s[-1].pod in lost]
    return bool(routers) and all(
        samples[0].at <= since + SAME_SCRAPE
        and samples[-1].at >= fresh
        and not any(restarted(before, after) for before, after in pairwise(samples) if after.at > since)
        for samples in routers
    )


def evicting(evidence: Evidence) -> str | None:
    """Tell if the server makes room for new KV at the cost of KV that is asked for again."""
    seen, caches = evidence.recent, evidence.recent.caches
    if caches.evicted_chunks < max(LEAST_CHUNKS, EVICTED_SHARE * caches.written_chunks):
        return None
    if seen.found_share >= FOUND_SHARE * _slack(evidence, Reason.EVICTING) or not caches.asked:
        return None
    if not _misses_reuse(evidence):
        return None
    return (
        f"The cache is too small: in the last {span(seen.seconds)} it evicted {count(caches.evicted_chunks)} chunks, "
        f"wrote {count(caches.written_chunks)}, and found {percent(seen.found_share)} of the tokens that it was asked "
        f"for. {_more_memory(evidence)}"
    )


def no_room(evidence: Evidence) -> str | None:
    """Tell if the server leaves in the L2 what engines ask for, because its memory is too full to load it."""
    seen, caches = evidence.recent, evidence.recent.caches
    chunk = evidence.target.spec.cache.chunk_size
    if caches.no_room < LEAST_CHUNKS or part(caches.no_room * chunk, caches.asked) < LOST_SHARE:
        return None
    sizes = sizing(evidence.target.spec)
    known = sizes.token_bytes and evidence.target.spec.engine.max_model_len
    advice = "" if known else "Set spec.model.kv and spec.engine.maxModelLen, so that room for a prompt is kept; or "
    return (
        f"LMCache servers had no room to load {count(caches.no_room)} chunks that the L2 holds, in the last "
        f"{span(seen.seconds)}: they were computed instead. A server of {size(sizes.server_bytes)} keeps "
        f"{percent(float(1 - sizes.fill))} free for what comes in. {advice}{'raise' if advice else 'Raise'} "
        f"{_size_field(evidence)}."
    )


def _misses_reuse(evidence: Evidence) -> bool:
    """Whether there is reuse that the caches miss: the router saw prompts begin alike, or there were hits before."""
    seen, routers = evidence.recent, evidence.recent.routers
    expected = routers.engine + routers.shared
    if expected:
        return part(expected, expected + routers.compute) - seen.reused_share >= LOST_SHARE
    return evidence.window.reused_share >= NOTHING and seen.reused_share < 1 - EVICTED_SHARE


def _more_memory(evidence: Evidence) -> str:
    """Advise a size: what was written in the window would all have been held by it."""
    now = [sample for sample in evidence.caches.values() if sample.objects]
    held, used = sum(sample.objects or 0 for sample in now), sum(sample.used_bytes for sample in now)
    sizes = sizing(evidence.target.spec)
    have = sizes.server_bytes
    if not held:
        return f"Raise {_size_field(evidence)}, or {_more_behind(evidence)}."
    written = evidence.window.caches.written_chunks * used / held / max(1, len(evidence.caches))
    wanted = max(ceil(written / sizes.fill / GIBI), ceil(2 * have / GIBI))
    return (
        f"All that was written in the last {span(evidence.window.seconds)} is {size(written)}; it holds {size(have)}. "
        f"Set {_size_field(evidence)} to {_amount(evidence, sizes, wanted)} or more, or {_more_behind(evidence)}."
    )


def _size_field(evidence: Evidence) -> str:
    """Return which field says how much the servers hold."""
    return "spec.cache.capacity" if evidence.target.spec.cache.capacity else "spec.cache.memory"


def _amount(evidence: Evidence, sizes: Sizing, gibi: int) -> str:
    """Return so many GiB of each server in the words of that field."""
    if evidence.target.spec.cache.capacity is None or sizes.token_bytes is None:
        return f"{gibi}Gi"
    tokens = int(gibi * GIBI * sizes.fill * sizes.servers / sizes.token_bytes)
    return f"{count(tokens)} tokens in all, from {count(tokens_wanted(evidence.target.spec.cache.capacity))},"


def _more_behind(evidence: Evidence) -> str:
    return "give the L2 more room" if evidence.target.spec.cache.l2 else "add spec.cache.l2"


def _slack(evidence: Evidence, reason: Reason) -> float:
    """Return by what a threshold is widened for a reason that is told already, so that it does not flap around it."""
    return 1.5 if evidence.told is reason else 1.0


def effective(evidence: Evidence) -> str | None:
    """Tell if engines take tokens from the server."""
    enough = NOTHING / _slack(evidence, Reason.EFFECTIVE) * _slack(evidence, Reason.FITS_IN_ENGINE)
    seen = _better(evidence, "server_share")
    if seen.server_share < enough:
        return None
    return (
        f"{percent(seen.reused_share)} of the prompt tokens of the last {span(seen.seconds)} were not computed: "
        f"{percent(seen.engine_share)} came from the engines' own caches, {percent(seen.server_share)} from the "
        "LMCache server."
    )


def fits_in_engine(evidence: Evidence) -> str | None:
    """Tell if the engines' own caches serve all the reuse."""
    seen = _better(evidence, "engine_share")
    if seen.engine_share < REUSED / _slack(evidence, Reason.FITS_IN_ENGINE) * _slack(evidence, Reason.NO_REUSE):
        return None
    return (
        f"The engines' own caches serve all reuse: {percent(seen.engine_share)} of the prompt tokens of the last "
        f"{span(seen.seconds)}. The LMCache server has nothing to add yet; it keeps KV for restarts and new engines."
    )


def _better(evidence: Evidence, share: str) -> Traffic:
    """Return the window, or the newest traffic where the cache does better in it: after a cure, for example."""
    window, seen = evidence.window, evidence.recent
    return window if getattr(window, share) >= getattr(seen, share) else seen


def no_reuse(evidence: Evidence) -> str | None:
    """Tell if nothing was reused over a while: what is left once every other cause is ruled out."""
    seen = evidence.window
    if seen.engines.requests < REUSE_REQUESTS or _age(evidence) < REUSE_SECONDS:
        return None
    expected = seen.routers.engine + seen.routers.shared
    alike = part(expected, expected + seen.routers.compute)
    rate = f"{percent(seen.reused_share)} of {count(seen.engines.total)} prompt tokens in the last {span(seen.seconds)}"
    if alike >= REUSED:
        return (
            f"Only {rate} were in a cache, although the router saw {percent(alike)} of them before. "
            "CacheSharingVerified says whether engines share; see whether spec.engine.args turns prefix caching off."
        )
    return (
        f"No prompts begin alike: {rate} were in a cache. If conversations should share prefixes, look at what clients "
        "send first: a date, an id or a shuffled list of tools at the beginning makes every prompt new."
    )


def _age(evidence: Evidence) -> float:
    """Return since when requests come in, in seconds: the first sample of the window after which something did."""
    first = [
        before.at
        for samples in evidence.measurement.engines.values()
        for before, after in pairwise(samples)
        if after.served > before.served
    ]
    return evidence.at - min(first, default=evidence.at)
