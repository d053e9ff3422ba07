"""Rules: whether engines and LMCache server have each other at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.effect.words import count, names, percent, span

if TYPE_CHECKING:
    from llmcache_operator.core.effect.evidence import Engine, Evidence, Traffic

SILENT_LOOKUPS = 4
"""Look-ups that engines began while the server saw none, before the server counts as out of their reach."""

REGISTRATION_SECONDS = 20.0
"""An engine registers before it is ready; this much is for clocks and scrapes that don't agree."""

REJOIN_SECONDS = 30.0
"""Engines notice a server that has restarted within ten seconds (lmcache.mp.heartbeat_interval) and register again."""

UNHEARD_SHARE = 0.15
SKEW_SECONDS = 3.0
SKEW_LOOKUPS = 3
"""Engines and server are not scraped at the same instant: so many look-ups may be seen by one side only."""

WASTED_SHARE = 0.1
WASTED_TOKENS = 1000
"""Part of the tokens that the server found, and how many, which engines neither took from it nor had themselves."""

EXPECTED_SHARE = 0.05
"""Part of its tokens that an engine takes from the server if the others do."""


def server_unreachable(evidence: Evidence) -> str | None:
    """Tell if the LMCache server is away, silent, or out of the engines' reach."""
    if evidence.servers is not None and not evidence.servers:
        return (
            "No LMCache server is ready, so every prompt that is not in an engine's own cache is computed. "
            "The condition CacheReady has the cause."
        )
    return _silent(evidence) or _unasked(evidence)


def engines_forgotten(evidence: Evidence) -> str | None:
    """Tell if the server has forgotten every engine, because none reaches it any more."""
    known = _registered(evidence)
    if known != 0 or not _expected(evidence):
        return None
    return (
        "The LMCache server answers the operator, but has heard nothing of any engine for half a minute and more. Look "
        "for a NetworkPolicy that keeps engines from port 5555, and for another lmcache.mp.host in spec.engine.args."
    )


def _silent(evidence: Evidence) -> str | None:
    """Tell if the server has not answered a scrape for longer than one can be lost by accident."""
    interval = evidence.target.settings.scrape_interval
    patience = max(1.5 * interval, interval + 10.0)
    answered = [sample.at for sample in evidence.caches.values()]
    if not answered or max(answered) >= evidence.at - patience:
        return None
    silent = min(evidence.caches)
    failure = evidence.measurement.failures.get(silent)
    why = f": {failure.why}" if failure else ""
    return (
        f"{silent} is called ready but does not answer{why}. "
        f"Look at its log (kubectl logs {silent}); if it hangs, delete the pod."
    )


def _unasked(evidence: Evidence) -> str | None:
    """Tell if engines look up and not one look-up arrives. A dropped event of LMCache's metrics proves nothing."""
    for steps in (1, 2, 4):
        seen = evidence.over(steps)
        begun = seen.engines.lookups
        if seen.servers_seen and begun >= SILENT_LOOKUPS and not seen.caches.lookups and not seen.caches.lost_events:
            return (
                f"The LMCache server answers the operator, but saw none of the {count(begun)} look-ups that engines "
                f"began in the last {span(seen.seconds)}. Look for a NetworkPolicy that keeps engines from port 5555, "
                "and for another lmcache.mp.host in spec.engine.args."
            )
    return None


def engines_not_registered(evidence: Evidence) -> str | None:
    """Tell if some engines don't use the server although others do."""
    return _without_connector(evidence) or _unknown(evidence) or _unheard(evidence) or _untaken(evidence)


def some_forgotten(evidence: Evidence) -> str | None:
    """Tell if the server knows fewer engines than are ready."""
    known, ready = _registered(evidence), _expected(evidence)
    if known is None or known >= ready or _without_connector(evidence):
        return None
    return (
        f"{known} of {ready} engines are registered at the LMCache server. The others never store and never find "
        f"anything.{_suspects(evidence, evidence.recent)}"
    )


def _registered(evidence: Evidence) -> int | None:
    """Return how many engines the servers know; None where they don't tell, or began so lately that some may lack.

    Without traffic it harms nobody, and engines may be forgotten.
    """
    joined = [s for s in evidence.caches.values() if (s.started_at or 0) <= evidence.at - REJOIN_SECONDS]
    if not evidence.window.engines.requests or len(joined) < len(evidence.caches):
        return None
    known = [sample.registered for sample in joined if sample.registered is not None]
    return round(sum(known)) if known else None


def _expected(evidence: Evidence) -> int:
    return sum(engine.since <= evidence.at - REGISTRATION_SECONDS for engine in evidence.engines)


def _without_connector(evidence: Evidence) -> str | None:
    """Tell of engines that have no metric of LMCache's connector while others have it."""
    lacking = [engine.name for engine in evidence.engines if engine.sample and engine.sample.lookups is None]
    if not lacking or len(lacking) == sum(engine.sample is not None for engine in evidence.engines):
        return None
    return (
        f"{names(lacking)} runs without LMCache's connector: it never stores and never finds anything. "
        "Compare its --kv-transfer-config with that of the others, and delete the pod if it is not the operator's."
    )


def _unknown(evidence: Evidence) -> str | None:
    """Tell of look-ups by engines that the server does not know."""
    seen = evidence.recent
    long_ago = evidence.at - seen.seconds - REJOIN_SECONDS
    strangers = seen.caches.unknown_lookups
    if strangers <= SKEW_LOOKUPS or any((sample.started_at or 0) > long_ago for sample in evidence.caches.values()):
        return None
    return (
        f"{count(strangers)} look-ups of the last {span(seen.seconds)} came from engines that are not registered "
        f"at the LMCache server.{_suspects(evidence, seen)}"
    )


def _unheard(evidence: Evidence) -> str | None:
    """Tell if a good part of the look-ups that engines began never arrived, and still don't arrive."""
    seen, newest = evidence.over(2), evidence.over(1)
    begun, arrived = seen.engines.lookups, seen.caches.lookups
    skew = SKEW_LOOKUPS + SKEW_SECONDS * begun / max(seen.seconds, 1.0)
    if not seen.servers_seen or seen.caches.lost_events or begun - arrived <= skew:
        return None
    if newest.engines.lookups - newest.caches.lookups < UNHEARD_SHARE * newest.engines.lookups:
        return None
    return (
        f"The LMCache server saw {count(arrived)} of the {count(begun)} look-ups that engines began in the last "
        f"{span(seen.seconds)}: some engines don't reach it.{_suspects(evidence, seen)}"
    )


def _untaken(evidence: Evidence) -> str | None:
    """Tell of engines that never take what the server finds for them, while others do."""
    seen = evidence.recent
    wasted = seen.caches.found - seen.engines.hits
    if wasted < max(WASTED_TOKENS, WASTED_SHARE * seen.caches.found):
        return None
    idle = _takes_nothing(evidence, seen)
    if not idle:
        return None
    return (
        f"{names(engine.name for engine in idle)} took nothing from the LMCache server in the last "
        f"{span(seen.seconds)}, although it found {count(wasted)} tokens more than engines used "
        f"({percent(wasted / seen.caches.found)} of what it found). They are not registered. "
        f"Restart them: kubectl delete pod {idle[0].name}."
    )


def _takes_nothing(evidence: Evidence, seen: Traffic) -> list[Engine]:
    """Return engines with traffic that took nothing from the server although others took their part."""
    shares = {
        engine.uid: counts.server_hits / counts.total
        for engine in evidence.engines
        if (counts := seen.by_engine.get(engine.uid)) and counts.total
    }
    if max(shares.values(), default=0.0) < EXPECTED_SHARE:
        return []
    return [engine for engine in evidence.engines if shares.get(engine.uid) == 0]


def _suspects(evidence: Evidence, seen: Traffic) -> str:
    idle = _takes_nothing(evidence, seen)
    if not idle:
        return " Look at the engines' logs: kubectl logs POD --container engine | grep -i lmcache."
    return (
        f" Taking nothing from it: {names(engine.name for engine in idle)}. Look at the log (kubectl logs "
        f"{idle[0].name} --container engine | grep -i lmcache), then restart: kubectl delete pod {idle[0].name}."
    )
