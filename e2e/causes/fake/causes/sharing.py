"""What only the self-test sees: KV that is wrong, and nothing shared without traffic that would show it."""

from __future__ import annotations

from e2e.causes.cause import Cause
from e2e.causes.fake.fleet import Fleet, engine_pod

SHARING = "CacheSharingVerified"
VERIFIED = frozenset({"Verified"})


def _wrong(fleet: Fleet, *, wrong: bool) -> None:
    for engine in fleet.engines:
        engine.wrong_kv = wrong
    fleet.make_pod(engine_pod(1), "engine")
    fleet.restart_engine(1)


CAUSES: tuple[Cause[Fleet], ...] = (
    Cause(
        "Wrong KV returned",
        "engines answer otherwise once they take KV from the server; then one engine pod is replaced",
        SHARING,
        "WrongKV",
        lambda fleet: _wrong(fleet, wrong=True),
        lambda fleet: _wrong(fleet, wrong=False),
        well=VERIFIED,
        after=VERIFIED,
    ),
)
