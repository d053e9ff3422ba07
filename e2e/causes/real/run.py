"""The stage with real engines: a cluster of its own, one service, one cause after another."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from e2e.causes.cause import prove
from e2e.causes.fake.serving import Loop
from e2e.causes.real.causes import CAUSES
from e2e.causes.real.causes.strays import OTHER_MODEL
from e2e.causes.real.live import Live
from e2e.causes.report import Found, seconds
from e2e.causes.runs import healthy, hit_rate
from e2e.causes.watch import Watch
from e2e.cluster import lifecycle, slots
from e2e.cluster.console import console, step
from e2e.cluster.errors import ClusterError
from e2e.cluster.handle import Local
from e2e.kube import wait_until
from e2e.models import redraw_weights
from e2e.stand import bring_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from e2e.causes.cause import Cause

WINDOW = 300.0
"""The operator's default window, in seconds."""
HEALTHY_SECONDS = 600.0
PATIENCE_SECONDS = 90.0
EVENTS = (
    ("an engine's container restarts", Live.restart_engine),
    ("a third engine joins", lambda live: live.scale(3)),
    ("it leaves again", lambda live: live.scale(2)),
)


def run(name: str, only: Sequence[str] = ()) -> Found:
    """Bring a cluster up, inject all causes, let engines come and go, leave the service alone, take the cluster down.

    With `only`, just the parts whose name holds one of these texts, and the rest as it was found last. What was found
    is saved after each step: a run that is broken off leaves what it has.
    """
    made = slots.find(name) is None
    found = Found.load("real") if only else Found()
    try:
        with _service(name) as live:
            for part in parts(Local(name), only):
                found += part(live)
                found.save("real")
        return found
    finally:
        if made:
            lifecycle.down(name)


def parts(cluster: Local, only: Sequence[str]) -> list[Callable[[Live], Found]]:
    """Return what is done to the service; raises ClusterError where nothing of `only` is in a part's name."""
    named: dict[str, Callable[[Live], Found]] = {cause.name: partial(_prove, cause) for cause in CAUSES}
    named |= {"Engines come and go": _come_and_go, "Left alone": partial(_left_alone, cluster)}
    chosen = [part for name, part in named.items() if any(text.lower() in name.lower() for text in only or [""])]
    if not chosen:
        raise ClusterError(f"--only {', '.join(only)} is in no name; there are: {', '.join(named)}")
    return chosen


def _prove(cause: Cause[Live], live: Live) -> Found:
    live.traffic.idle = "Idle" in cause.well
    result = prove(cause, live, engines="real", patience=PATIENCE_SECONDS)
    console.print(
        f"{result.cause}: {result.shown}, named after {seconds(result.named)}, gone after {seconds(result.cleared)}"
    )
    return Found(results=(result,))


def _come_and_go(live: Live) -> Found:
    live.traffic.idle = True
    wait_until("the window is empty", lambda: "hitRatePercent" not in live.cache(), seconds=2 * WINDOW)
    rate = hit_rate(live, EVENTS, engines="real", pause=20.0, window=WINDOW, settle=80.0)
    console.print(f"engines come and go: {rate}")
    return Found(hit_rates=(rate,))


def _left_alone(cluster: Local, live: Live) -> Found:
    alone = healthy(
        live, lambda: cluster.audit_log() or [], engines="real", seconds=HEALTHY_SECONDS, window=WINDOW, idle_seconds=0
    )
    console.print(f"left alone: {alone}")
    return Found(healthy=(alone,))


@contextlib.contextmanager
def _service(name: str) -> Iterator[Live]:
    """Install everything, and provide the service, with a model beside its own that has other weights."""
    stand = bring_up(name)
    redraw_weights(stand.kube, stand.refs, "tiny", OTHER_MODEL, seed=1)
    with Watch(stand.cluster.kubeconfig) as watch, Loop() as loop:
        live = Live(stand.kube, watch, loop)
        with step(f"llmcs/{live.name} is ready"):
            live.start()
        try:
            yield live
        finally:
            live.stop()
