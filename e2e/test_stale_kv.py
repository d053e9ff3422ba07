"""A model that changes behind a service: no engine ever takes KV that the old weights computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.kube import wait_until
from e2e.models import redraw_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.kube import Kube
    from e2e.services import Service

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("models")]
PROMPT = "Once upon a time " + " ".join(f"there were {number} small boats," for number in range(150))


def cache_server(service: Service) -> str:
    """Return what changes when the cache server restarts: the pod's UID and its count of restarts."""
    (pod,) = service.kube.pods(service.name, "cache-server")
    return f"{pod['metadata']['uid']}/{pod['status']['containerStatuses'][0]['restartCount']}"


def new_engine(service: Service, old: str) -> str:
    """Wait until another pod serves, and return its name."""

    def replaced() -> str | None:
        engines = service.engines()
        return engines[0] if len(engines) == 1 and engines[0] != old else None

    engine = wait_until("a new engine pod", replaced, seconds=300)
    service.wait("Ready", "True")
    return engine


@pytest.mark.parametrize("way", ["another uri", "new weights at the same path, bumped revision", "in place, unsaid"])
def test_new_weights_never_meet_kv_of_the_old(
    service: Callable[..., Service], kube: Kube, refs: dict[str, str], way: str
) -> None:
    """The cache server keeps running throughout, and still serves the old model's KV to nobody."""
    redraw_weights(kube, refs, "tiny", "changing", seed=None)
    one = service("stale", model={"uri": "pvc://models/changing", "revision": "1"})
    one.wait("Ready", "True")
    (old,) = one.engines()
    first, again = one.ask_engine(old, PROMPT), one.ask_engine(old, PROMPT)
    server, identity = cache_server(one), one.status()["cache"]["identity"]
    assert first.tokens.computed > 512
    assert again.tokens.engine > 512

    if way == "another uri":
        redraw_weights(kube, refs, "tiny", "another", seed=7)
        one.patch({"model": {"uri": "pvc://models/another"}})
    elif way == "in place, unsaid":
        redraw_weights(kube, refs, "tiny", "changing", seed=7)
        kube.run("delete", "pod", old, "--wait=false")
    else:
        redraw_weights(kube, refs, "tiny", "changing", seed=7)
        one.patch({"model": {"revision": "2"}})
    changed = one.ask_engine(new_engine(one, old), PROMPT)

    assert changed.tokens.server == 0
    assert changed.tokens.computed == changed.tokens.total
    assert changed.top != first.top
    assert cache_server(one) == server
    assert (one.status()["cache"]["identity"] == identity) == (way == "in place, unsaid")


def test_the_same_weights_find_their_kv_again_after_an_engine_restart(service: Callable[..., Service]) -> None:
    one = service("keeps")
    one.wait("Ready", "True")
    (old,) = one.engines()
    first = one.ask_engine(old, PROMPT)

    one.kube.run("delete", "pod", old, "--wait=false")
    again = one.ask_engine(new_engine(one, old), PROMPT)

    assert again.tokens.server >= 512
    assert again.top == pytest.approx(first.top)
