"""Containers and pods that have not come up, as the kubelet reports them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcache_operator.core.target import Component
from tests.core.samples import pod, stamp

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

LOOP: Json = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container=engine"}}


def container(name: str = "engine", image: str = "engine:1", restarts: int = 0, **state: Any) -> Json:
    last = state.pop("last", None)
    status = {"name": name, "image": image, "ready": False, "started": False, "restartCount": restarts, "state": state}
    return status | ({"lastState": {"terminated": last}} if last else {})


def waiting(reason: str, message: str = "", **fields: Any) -> Json:
    return container(waiting={"reason": reason, "message": message}, **fields)


def ended(code: int = 1, reason: str = "Error", message: str = "", *, lasted: float = 20, ago: float = 5) -> Json:
    return {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": stamp(ago + lasted),
        "finishedAt": stamp(ago),
    }


def engine_pod(*containers: Json, init: tuple[Json, ...] = (), spec: Json | None = None, **status: Any) -> Json:
    made = pod(
        Component.ENGINE, ready=False, containerStatuses=list(containers), initContainerStatuses=list(init), **status
    )
    return made | {"spec": spec or {}}
