"""Requests that can't hit, that are sent to the wrong engine, or whose hits don't pay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.causes.cause import Cause
from e2e.causes.real.live import SESSIONS
from e2e.causes.real.node import lift_limit, limit_rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.causes.real.live import Live

EFFECTIVE = "CacheEffective"
RATE = "3mbit"
"""Of the cache server's network: some 180 tokens a second of a model whose tokens have 2 KiB of KV."""
MANY_SESSIONS, LONG_PAUSE = 24, 55.0
"""More short conversations than engines hold, and so few requests that none waits for the loads of others."""


def _traffic(**fields: object) -> Callable[[Live], None]:
    def change(live: Live) -> None:
        for name, value in fields.items():
            setattr(live.traffic, name, value)

    return change


def _policy(name: str) -> Callable[[Live], None]:
    def change(live: Live) -> None:
        live.service.patch({"router": {"policy": name}})
        live.service.wait("Ready", "True")

    return change


def _slow_network(live: Live) -> None:
    live.traffic.system, live.traffic.turn = 600, 40
    live.restart_clients(MANY_SESSIONS, LONG_PAUSE)
    limit_rate(live.cache_server(), RATE)


def _fast_network(live: Live) -> None:
    lift_limit(live.cache_server())
    live.traffic.system, live.traffic.turn = 1800, 120
    live.restart_clients(SESSIONS)


CAUSES: tuple[Cause[Live], ...] = (
    Cause(
        "Prompts that share nothing",
        "every prompt begins with an id of its own",
        EFFECTIVE,
        "NoReuse",
        _traffic(shares=False, idle=False, system=600),
        _traffic(shares=True, system=1800),
        well=frozenset({"Idle", "TooFewRequests", "NotSampledYet"}),
        after=frozenset({"Effective", "FitsInEngine"}),
    ),
    Cause(
        "Prompts under one chunk",
        "clients send prompts of at most 200 tokens",
        EFFECTIVE,
        "TooShortPrompts",
        _traffic(system=60, turn=8),
        _traffic(system=1800, turn=120),
    ),
    Cause(
        "Clients go past the router",
        "requests sent to the engines in turn, none through the router",
        EFFECTIVE,
        "RouterScatters",
        _traffic(past_router=True),
        _traffic(past_router=False),
    ),
    Cause(
        "Router sends a session everywhere",
        "`spec.router.policy: RoundRobin`",
        EFFECTIVE,
        "RouterScatters",
        _policy("RoundRobin"),
        _policy("PrefixAware"),
    ),
    Cause(
        "Reloads slower than prefill",
        f"the network of the cache server's pod limited to {RATE}, some 25 requests a minute",
        EFFECTIVE,
        "SlowerThanPrefill",
        _slow_network,
        _fast_network,
    ),
)
