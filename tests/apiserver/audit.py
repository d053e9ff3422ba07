"""What the operator wrote, as the API server's audit log has it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from e2e.kube import wait_until

if TYPE_CHECKING:
    from e2e.kube import Json
    from tests.apiserver.server import ApiServer

OPERATOR = "system:serviceaccount:llmcache-system:llmcache-operator"


def writes(server: ApiServer, namespace: str) -> list[Json]:
    """What the operator wrote or tried to, its Lease apart."""
    return [
        event
        for event in server.writes()
        if event["user"]["username"] == OPERATOR
        and event["objectRef"]["resource"] != "leases"
        and event["objectRef"].get("namespace") == namespace
    ]


def wait_for_rest(server: ApiServer, namespace: str) -> None:
    """Wait until three seconds have passed without a write."""
    seen: list[tuple[float, int]] = []

    def at_rest() -> bool:
        now, count = time.monotonic(), len(writes(server, namespace))
        if not seen or seen[-1][1] != count:
            seen.append((now, count))
        return now - seen[-1][0] >= 3.0

    wait_until("three seconds without a write", at_rest, seconds=30, every=0.2)
