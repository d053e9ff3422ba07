"""A cache server that is away, empty, changed or too small, and engines that don't reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.causes.cause import Cause
from e2e.causes.real.live import MEMORY, NAME, SESSIONS
from e2e.causes.real.node import in_network
from e2e.kube import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.causes.real.live import Live
    from e2e.kube import Json

EFFECTIVE = "CacheEffective"
REFILLS = frozenset({"Effective", "CacheEmptied"})
"""An emptied cache is told after the causes that have these: the rules are in that order."""
MP_PORT = "5555"
MANY_SESSIONS, LONG_PAUSE = 32, 29.0


def _firewall(action: str, which: Callable[[Live], Json], chain: str) -> Callable[[Live], None]:
    rule = (chain, "--protocol", "tcp", "--dport", MP_PORT, "--jump", "DROP")

    def change(live: Live) -> None:
        in_network(which(live), "iptables", action, *rule)

    return change


def _server(live: Live) -> Json:
    return live.cache_server()


def _one_engine(live: Live) -> Json:
    return live.engines()[0]


def _scaled_to_nothing(live: Live) -> None:
    live.pause()
    live.kube.run("scale", "statefulset", f"{NAME}-cache", "--replicas=0")


def _scaled_back(live: Live) -> None:
    live.go_on()
    live.kube.run("rollout", "status", f"statefulset/{NAME}-cache", "--timeout=90s", seconds=95)


def _restarted(live: Live) -> None:
    live.kill(live.cache_server(), "lmcache")


def _chunk(size: int) -> Callable[[Live], None]:
    def change(live: Live) -> None:
        live.pause()
        stateful_set = live.kube.get("statefulset", f"{NAME}-cache") or {}
        args = list(stateful_set["spec"]["template"]["spec"]["containers"][0]["args"])
        args[args.index("--chunk-size") + 1] = str(size)
        container = {"name": "cache-server", "args": args}
        live.edit("statefulset", f"{NAME}-cache", {"spec": {"template": {"spec": {"containers": [container]}}}})
        live.kube.run("rollout", "status", f"statefulset/{NAME}-cache", "--timeout=90s", seconds=95)

    return change


def _too_small(live: Live) -> None:
    """Count from when each conversation has come once: before that, nothing could be found."""
    live.service.patch({"cache": {"memory": "128Mi"}})
    live.service.wait("Ready", "True")
    live.traffic.system, before = 2800, len(live.usages)
    live.restart_clients(MANY_SESSIONS, LONG_PAUSE)
    wait_until("each has come once", lambda: len(live.usages) >= before + MANY_SESSIONS, seconds=120)


def _large_enough(live: Live) -> None:
    live.service.patch({"cache": {"memory": MEMORY}})
    live.service.wait("Ready", "True")
    live.traffic.system = 1800
    live.restart_clients(SESSIONS)


CAUSES: tuple[Cause[Live], ...] = (
    Cause(
        "NetworkPolicy between engines and cache server",
        "packets to port 5555 dropped in the cache server's network (TCP tries again ever more rarely)",
        EFFECTIVE,
        "ServerUnreachable",
        _firewall("--insert", _server, "INPUT"),
        _firewall("--delete", _server, "INPUT"),
    ),
    Cause(
        "Wrong host on one engine",
        "packets of one engine to port 5555 dropped in its network",
        EFFECTIVE,
        "EnginesNotRegistered",
        _firewall("--insert", _one_engine, "OUTPUT"),
        _firewall("--delete", _one_engine, "OUTPUT"),
    ),
    Cause(
        "Cache server restarted empty",
        "its process killed; counted from when it answers again",
        EFFECTIVE,
        "CacheEmptied",
        _restarted,
        lambda _: None,
    ),
    Cause(
        "Cache server down",
        "service paused, StatefulSet scaled to 0",
        EFFECTIVE,
        "ServerUnreachable",
        _scaled_to_nothing,
        _scaled_back,
        well=REFILLS,
        after=REFILLS,
    ),
    Cause(
        "Cache far too small",
        f"`spec.cache.memory: 128Mi` for {MANY_SESSIONS} conversations of 220 MB, once each has come",
        EFFECTIVE,
        "Evicting",
        _too_small,
        _large_enough,
        well=REFILLS,
        after=REFILLS,
    ),
    Cause(
        "Other chunk size on the cache server",
        "service paused, `--chunk-size 512` written into the StatefulSet",
        EFFECTIVE,
        "IdentityMismatch",
        _chunk(512),
        _scaled_back,
        well=REFILLS,
        after=REFILLS,
    ),
)
