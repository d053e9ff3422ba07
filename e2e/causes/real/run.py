"""The stage with real engines: a cluster of its own, one service, one cause after another."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from e2e import images
from e2e.causes.cause import prove
from e2e.causes.fake.serving import Loop
from e2e.causes.real.causes import CAUSES
from e2e.causes.real.causes.strays import OTHER_MODEL
from e2e.causes.real.live import NAME, Live
from e2e.causes.report import Found
from e2e.causes.runs import healthy, hit_rate
from e2e.causes.watch import Watch
from e2e.cluster import lifecycle, slots
from e2e.cluster.console import console, step
from e2e.cluster.handle import Local
from e2e.install import install
from e2e.kube import Kube, wait_until
from e2e.models import provide_models, redraw_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.causes.cause import Result

WINDOW = 300.0
"""The operator's default window, in seconds."""
HEALTHY_SECONDS = 600.0


def run(name: str) -> Found:
    """Bring a cluster up, inject all causes, leave the service alone, let its engines change, take the cluster down."""
    made = slots.find(name) is None
    try:
        with _service(name) as live:
            results = tuple(_told(prove(cause, live, engines="real")) for cause in CAUSES)
            with step("a healthy service left alone"):
                audit = Local(name).audit_log
                alone = healthy(
                    live,
                    lambda: audit() or [],
                    engines="real",
                    seconds=HEALTHY_SECONDS,
                    window=WINDOW,
                    idle_seconds=0,
                )
            live.traffic.idle = True
            wait_until("the window is empty", lambda: "hitRatePercent" not in live.cache(), seconds=2 * WINDOW)
            events = (
                ("an engine's container restarts", Live.restart_engine),
                ("a third engine joins", lambda live: live.scale(3)),
                ("it leaves again", lambda live: live.scale(2)),
            )
            with step("a service whose engines come and go"):
                rate = hit_rate(live, events, engines="real", pause=20.0, window=WINDOW, settle=80.0)
        return Found(results, (alone,), (rate,))
    finally:
        if made:
            lifecycle.down(name)


def _told(result: Result) -> Result:
    console.print(f"{result.cause}: {result.shown}, named after {result.named}, cleared after {result.cleared}")
    return result


@contextlib.contextmanager
def _service(name: str) -> Iterator[Live]:
    """Install everything, and provide the service, with a model beside its own that has other weights."""
    cluster = lifecycle.up(name)
    refs = images.ensure(name)
    install(cluster.kubeconfig, refs)
    kube = Kube(cluster.kubeconfig)
    provide_models(kube, refs)
    redraw_weights(kube, refs, "tiny", OTHER_MODEL, seed=1)
    with Watch(cluster.kubeconfig) as watch, Loop() as loop:
        live = Live(kube, watch, loop)
        with step(f"llmcs/{NAME} is ready"):
            live.start()
        try:
            yield live
        finally:
            live.stop()
