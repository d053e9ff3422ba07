"""A model that changes behind a service: no engine ever takes KV that the old weights computed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from e2e.kube import condition, wait_until
from e2e.models import redraw_weights
from e2e.services import Service, manifest
from e2e.valkey import await_stored, keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.kube import Kube

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("models")]


@pytest.fixture(scope="module")
def stale(kube: Kube, models: None, refs: dict[str, str]) -> Iterator[Service]:  # noqa: ARG001
    """Provide one engine whose model is a folder that tests write to, and a server and a Valkey that outlive it."""
    redraw_weights(kube, refs, "tiny", "changing", seed=None)
    l2 = {"valkey": {"managed": {"memory": "128Mi", "cpu": "50m"}}}
    kube.apply(manifest("stale", model={"uri": "pvc://models/changing", "revision": "1"}, cache={"l2": l2}))
    one = Service(kube, "stale")
    one.wait("Ready", "True")
    one.wait("L2Ready", "True", seconds=60)
    yield one
    kube.run("delete", "llmcs", one.name)


def cache_server(service: Service) -> str:
    """Return what changes when the cache server restarts: the pod's UID and its count of restarts."""
    (pod,) = service.kube.pods(service.name, "cache-server")
    return f"{pod['metadata']['uid']}/{pod['status']['containerStatuses'][0]['restartCount']}"


def new_engine(service: Service, old: str) -> str:
    """Wait until another pod serves in the place of `old`, and return its name."""

    def replaced() -> str | None:
        engines = service.engines()
        if len(engines) != 1 or engines[0] == old:
            return None
        ready = condition(service.kube.get("pod", engines[0]), "Ready")
        return engines[0] if ready.get("status") == "True" else None

    engine = wait_until("a new engine pod that serves", replaced, seconds=400)
    service.wait("Ready", "True")
    return engine


def prompt() -> str:
    """Return a prompt of some 1,000 tokens that nobody has sent before."""
    return f"{uuid.uuid4()}: " + " ".join(f"there were {number} small boats," for number in range(150))


@pytest.mark.parametrize("way", ["another uri", "new weights at the same path, bumped revision", "in place, unsaid"])
def test_new_weights_never_meet_kv_of_the_old(stale: Service, refs: dict[str, str], way: str) -> None:
    """The cache server keeps running throughout, with the old model's KV in it and in Valkey."""
    (old,), stored = stale.engines(), keys(stale)
    text, spec = prompt(), stale.resource()["spec"]["model"]
    first, again = stale.ask_engine(old, text), stale.ask_engine(old, text)
    server, identity = cache_server(stale), stale.status()["cache"]["identity"]
    assert first.tokens.computed > 512
    assert again.tokens.engine > 512
    await_stored(stale, stored, first.tokens.total)

    mark = uuid.uuid4().hex[:6]
    folder = f"other-{mark}" if way == "another uri" else spec["uri"].rpartition("/")[2]
    redraw_weights(stale.kube, refs, "tiny", folder, seed=int(mark, 16))
    if way == "another uri":
        stale.patch({"model": {"uri": f"pvc://models/{folder}"}})
    elif way == "in place, unsaid":
        stale.kube.run("delete", "pod", old, "--wait=false")
    else:
        stale.patch({"model": {"revision": mark}})
    changed = stale.ask_engine(new_engine(stale, old), text)

    assert changed.tokens.server == 0
    assert changed.tokens.computed == changed.tokens.total
    assert not changed.is_like(first)
    assert cache_server(stale) == server
    assert (stale.status()["cache"]["identity"] == identity) == (way == "in place, unsaid")


def test_the_same_weights_find_their_kv_again_after_an_engine_restart(stale: Service) -> None:
    (old,) = stale.engines()
    first = stale.ask_engine(old, text := prompt())

    stale.kube.run("delete", "pod", old, "--wait=false")
    again = stale.ask_engine(new_engine(stale, old), text)

    assert again.tokens.server >= 512
    assert again.is_like(first)


def test_an_engine_that_restarts_alone_refuses_weights_it_has_no_fingerprint_of(
    stale: Service, refs: dict[str, str]
) -> None:
    """Only the container restarts, so the gate does not run again: the engine has to notice by itself."""
    (old,) = stale.engines()
    mark = uuid.uuid4().hex[:6]
    folder = stale.resource()["spec"]["model"]["uri"].rpartition("/")[2]
    redraw_weights(stale.kube, refs, "tiny", folder, seed=int(mark, 16))

    stale.kube.run("exec", old, "-c", "engine", "--", "sh", "-c", "kill 1")

    assert "delete the pod" in stale.wait("Stalled", "True", "EngineCrashing", seconds=200)["message"]
    stale.kube.run("delete", "pod", old, "--wait=false")
    new_engine(stale, old)
    assert stale.condition("Stalled") == {}
