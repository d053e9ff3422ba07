"""The stage with fake engines: an API server of its own, the operator as a process, all causes at once."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.causes.fake.causes import CAUSES
from e2e.causes.fake.stage import stage
from e2e.causes.report import Found
from e2e.causes.runs import Healthy, HitRate, healthy, hit_rate
from e2e.cluster.console import step
from tests.apiserver.operator_process import OperatorProcess, install
from tests.apiserver.server import ApiServer

if TYPE_CHECKING:
    from e2e.causes.fake.fleet import Fleet
    from e2e.causes.fake.stage import Stage

WINDOW = 300.0
"""The operator's default window, in seconds."""
HEALTHY_SECONDS, IDLE_SECONDS = 600.0, 300.0


def run() -> Found:
    """Inject all causes, and at the same time leave one healthy service alone and let another one's engines change."""
    with tempfile.TemporaryDirectory() as folder:
        server = ApiServer(Path(folder))
        try:
            with step("API server"):
                server.start()
                kubeconfig = install(server)
            operator = OperatorProcess(kubeconfig, Path(folder) / "operator.log")
            try:
                operator.wait_until_leading()
                with stage(server.kubeconfig) as shared, ThreadPoolExecutor() as pool:
                    left_alone = pool.submit(_healthy, shared, server)
                    changing = pool.submit(
                        change_engines, shared, len(CAUSES) + 1, pause=45.0, window=WINDOW, settle=80.0
                    )
                    with step(f"{len(CAUSES)} causes"):
                        results = shared.prove_all(CAUSES)
                    with step("a healthy service left alone"):
                        return Found(tuple(results), (left_alone.result(),), (changing.result(),))
            finally:
                operator.stop()
        finally:
            server.stop()


def _healthy(shared: Stage, server: ApiServer) -> Healthy:
    fleet = shared.fleet(len(CAUSES))
    try:
        fleet.start()
        return healthy(
            fleet,
            server.writes,
            engines="fake",
            seconds=HEALTHY_SECONDS,
            window=WINDOW,
            idle_seconds=IDLE_SECONDS,
        )
    finally:
        fleet.stop()


def change_engines(shared: Stage, number: int, *, pause: float, window: float, settle: float) -> HitRate:
    """Let engines of one fleet come and go, and compare its hit rate with the usage of its answers."""
    fleet = shared.fleet(number)
    fleet.traffic.idle = True
    events = (
        ("an engine restarts", _restart),
        ("a third engine joins", _scale_up),
        ("it leaves again", _scale_down),
    )
    try:
        fleet.start()
        return hit_rate(fleet, events, engines="fake", pause=pause, window=window, settle=settle)
    finally:
        fleet.stop()


def _restart(fleet: Fleet) -> None:
    fleet.restart_engine(1)


def _scale_up(fleet: Fleet) -> None:
    fleet.scale(3)


def _scale_down(fleet: Fleet) -> None:
    fleet.scale(2)
