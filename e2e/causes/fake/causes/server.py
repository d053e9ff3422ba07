"""A cache server that is away, empty or too small, and engines that don't reach it."""

from __future__ import annotations

from e2e.causes.cause import Cause
from e2e.causes.fake.fleet import CACHE_POD, Fleet

EFFECTIVE = "CacheEffective"
REFILLS = frozenset({"Effective", "CacheEmptied"})


def _down(fleet: Fleet) -> None:
    fleet.server.up = False
    fleet.kubelet.report(CACHE_POD, ready=False)
    fleet.report_workloads(cache_server=0)


def _up(fleet: Fleet) -> None:
    fleet.server.up = True
    fleet.restart_cache_server()
    fleet.report_workloads()


def _hangs(fleet: Fleet) -> None:
    fleet.server.up = False


def _goes_on(fleet: Fleet) -> None:
    fleet.server.up = True


def _cut_off(fleet: Fleet) -> None:
    for engine in fleet.engines:
        engine.reaches_server = False


def _reached(fleet: Fleet) -> None:
    for engine in fleet.engines:
        engine.reaches_server = True


def _memory(fleet: Fleet, size: str, chunks: int) -> None:
    fleet.restart_cache_server(capacity=chunks)
    fleet.change({"cache": {"memory": size}})


def _small_engines(fleet: Fleet) -> None:
    """Leave all reuse to the server."""
    fleet.engine_tokens = 3000


CAUSES: tuple[Cause[Fleet], ...] = (
    Cause(
        "Cache server down",
        "the server's pod is not ready and answers nobody",
        EFFECTIVE,
        "ServerUnreachable",
        _down,
        _up,
        after=REFILLS,
    ),
    Cause(
        "Cache server hangs",
        "the server closes every connection; its pod is still called ready",
        EFFECTIVE,
        "ServerUnreachable",
        _hangs,
        _goes_on,
    ),
    Cause(
        "NetworkPolicy between engines and cache server",
        "no engine reaches port 5555; the operator reaches the HTTP port",
        EFFECTIVE,
        "ServerUnreachable",
        _cut_off,
        _reached,
    ),
    Cause(
        "Engine that never registered",
        "one engine restarted with a connector that does not register",
        EFFECTIVE,
        "EnginesNotRegistered",
        lambda fleet: fleet.restart_engine(1, registers=False),
        lambda fleet: fleet.restart_engine(1, registers=True),
    ),
    Cause(
        "Wrong host on one engine",
        "one engine restarted with another `lmcache.mp.host`: its look-ups reach nobody",
        EFFECTIVE,
        "EnginesNotRegistered",
        lambda fleet: fleet.restart_engine(1, reaches_server=False),
        lambda fleet: fleet.restart_engine(1, reaches_server=True),
    ),
    Cause(
        "Cache server restarted empty",
        "its container restarted",
        EFFECTIVE,
        "CacheEmptied",
        lambda fleet: fleet.restart_cache_server(),
        lambda _: None,
    ),
    Cause(
        "Cache far too small",
        "`spec.cache.memory: 128Mi` for 8 conversations, and engines that hold one and a half",
        EFFECTIVE,
        "Evicting",
        lambda fleet: _memory(fleet, "128Mi", chunks=12),
        lambda fleet: _memory(fleet, "4Gi", chunks=409),
        after=REFILLS,
        prepare=_small_engines,
    ),
)
