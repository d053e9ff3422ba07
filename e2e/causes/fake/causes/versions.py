"""Versions that differ between pods, or don't go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.causes.cause import Cause

if TYPE_CHECKING:
    from e2e.causes.fake.fleet import Fleet

VERSIONS = "VersionsCompatible"
COMPATIBLE = frozenset({"Compatible"})

CAUSES: tuple[Cause[Fleet], ...] = (
    Cause(
        "Other vLLM on one engine",
        "one engine restarted with vLLM 0.31.0",
        VERSIONS,
        "VersionsDiffer",
        lambda fleet: fleet.restart_engine(1, version="0.31.0"),
        lambda fleet: fleet.restart_engine(1, version="0.32.0"),
        well=COMPATIBLE,
        after=COMPATIBLE,
    ),
    Cause(
        "LMCache version mismatch",
        "the cache server restarted with LMCache 0.4.2 under engines of vLLM 0.32.0",
        VERSIONS,
        "KnownBad",
        lambda fleet: fleet.restart_cache_server(version="0.4.2"),
        lambda fleet: fleet.restart_cache_server(version="0.5.6"),
        well=COMPATIBLE,
        after=COMPATIBLE,
    ),
)
