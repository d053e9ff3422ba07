"""The self-test on real engines: what does not share, or shares wrong KV, is named, and the condition clears with it.

That engines which do share are verified is a part of test_sharing.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from e2e import counters
from e2e.kube import condition, wait_until
from e2e.models import redraw_weights
from e2e.services import READY_SECONDS, Service, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.kube import Json, Kube

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("models")]
SHARING = "CacheSharingVerified"
STRAY = "tried-engine-stray"
OTHER_PATH = "/llmcache/run/another"


@pytest.fixture(scope="module")
def tried(kube: Kube, models: None, refs: dict[str, str]) -> Iterator[Service]:  # noqa: ARG001
    """Provide a service with one engine, whose self-test is on, and other weights beside its model."""
    kube.apply(manifest("tried", cache={"selfTest": "Enabled"}))
    redraw_weights(kube, refs, "tiny", "redrawn", seed=7)
    one = Service(kube, "tried")
    one.wait("Ready", "True")
    yield one
    kube.run("delete", "llmcs", one.name)


@pytest.mark.parametrize(
    ("folder", "path", "status", "reason"),
    [("tiny", OTHER_PATH, "False", "NothingShared"), ("redrawn", None, "False", "WrongKV")],
    ids=["another model path", "other weights at the same path"],
)
def test_an_engine_that_is_not_like_the_other_is_named_until_it_is_gone(
    tried: Service, folder: str, path: str | None, status: str, reason: str
) -> None:
    """The odd one is a pod that somebody made by hand, with the labels of the service."""
    tried.wait(SHARING, "Unknown", "OneEngine", seconds=60)
    (engine,) = tried.engines()
    add_stray(tried, folder, path or model_path(tried, engine))

    found = tried.wait(SHARING, status, reason, seconds=60)
    assert engine in found["message"]
    assert STRAY in found["message"]
    assert tried.condition("Ready")["status"] == "True"
    events = tried.kube.run("events", "--for", f"llmcs/{tried.name}", "--types=Warning")
    assert reason in events
    if reason == "WrongKV":
        assert "different weights" in found["message"]
        taken = counters.read(tried.kube, engine).server + counters.read(tried.kube, STRAY).server
        assert taken > 0
        assert "hitRatePercent" not in tried.status()["cache"], "the self-test's own tokens are no traffic"

    tried.kube.run("delete", "pod", STRAY, "--grace-period=1", "--timeout=60s", seconds=65)
    tried.wait(SHARING, "Unknown", "OneEngine", seconds=60)


def model_path(service: Service, pod: str) -> str:
    """Return the path that an engine was started with."""
    path: str = json.loads(service.kube.raw(pod, counters.ENGINE_PORT, "/v1/models"))["data"][0]["root"]
    return path


def add_stray(service: Service, folder: str, path: str) -> None:
    """Add an engine that serves a folder of the claim at a path of choice, and wait until it answers."""
    template: Json = (service.kube.get("deployment", f"{service.name}-engine") or {})["spec"]["template"]
    spec = template["spec"]
    (gate,) = spec["initContainers"]
    (main,) = spec["containers"]
    link = f"ln -s /llmcache/source/{folder} {path} && printf %s {path} > /llmcache/run/model-path"
    gate |= {"image": main["image"], "command": ["sh", "-c", link], "args": []}
    metadata = {"name": STRAY, "labels": template["metadata"]["labels"]}
    service.kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def ready() -> bool:
        return condition(service.kube.get("pod", STRAY), "Ready").get("status") == "True"

    wait_until(f"pod {STRAY} is ready", ready, seconds=READY_SECONDS)
