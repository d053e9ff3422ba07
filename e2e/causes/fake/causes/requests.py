"""Requests that can't hit, that are sent to the wrong engine, or whose hits don't pay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.causes.cause import Cause
from tests.fakes.vllm import Speeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.causes.fake.fleet import Fleet

EFFECTIVE = "CacheEffective"


def _traffic(**fields: object) -> Callable[[Fleet], None]:
    def change(fleet: Fleet) -> None:
        for name, value in fields.items():
            setattr(fleet.traffic, name, value)

    return change


def _policy(name: str, *, scatter: bool) -> Callable[[Fleet], None]:
    def change(fleet: Fleet) -> None:
        fleet.change({"router": {"policy": name}})
        fleet.scatters = scatter

    return change


def _reload(speed: float) -> Callable[[Fleet], None]:
    def change(fleet: Fleet) -> None:
        for engine in fleet.engines:
            engine.speeds = Speeds(prefill=10_000.0, reload=speed)

    return change


def _much_from_server(fleet: Fleet) -> None:
    """Leave all reuse to the server, so that there is something to measure it by."""
    fleet.engine_tokens = 3000


CAUSES: tuple[Cause[Fleet], ...] = (
    Cause(
        "Prompts under one chunk",
        "clients send prompts of at most 200 tokens",
        EFFECTIVE,
        "TooShortPrompts",
        _traffic(system=100, turn=12),
        _traffic(system=1800, turn=120),
    ),
    Cause(
        "Prompts that share nothing",
        "every prompt begins with an id of its own",
        EFFECTIVE,
        "NoReuse",
        _traffic(shares=False, idle=False),
        _traffic(shares=True),
        well=frozenset({"Idle", "TooFewRequests", "NotSampledYet"}),
        after=frozenset({"Effective", "FitsInEngine"}),
        prepare=_traffic(idle=True),
    ),
    Cause(
        "Router sends a session everywhere",
        "`spec.router.policy: RoundRobin`",
        EFFECTIVE,
        "RouterScatters",
        _policy("RoundRobin", scatter=True),
        _policy("PrefixAware", scatter=False),
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
        "Reloads much slower than prefill",
        "1,000 tokens a second from the server, 10,000 computed: an 8B model on a GPU, with its KV over 100 MB/s",
        EFFECTIVE,
        "SlowerThanPrefill",
        _reload(1_000.0),
        _reload(60_000.0),
        prepare=_much_from_server,
    ),
    Cause(
        "Reloads somewhat slower than prefill",
        "4,000 tokens a second from the server, 10,000 computed",
        EFFECTIVE,
        "SlowerThanPrefill",
        _reload(4_000.0),
        _reload(60_000.0),
        prepare=_much_from_server,
    ),
)
