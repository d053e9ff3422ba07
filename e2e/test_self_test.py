"""The self-test on real engines: wrong KV is named, and the condition goes with its cause.

That engines which share are verified is a part of test_sharing.py; `make causes` has engines that share nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e import counters
from e2e.cluster.errors import ClusterError
from e2e.disguise import disguise
from e2e.kube import condition, wait_until
from e2e.models import redraw_weights
from e2e.services import READY_SECONDS, Service, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.kube import Json, Kube

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("models")]
SHARING = "CacheSharingVerified"
STRAY = "tried-engine-stray"


@pytest.fixture
def tried(kube: Kube, models: None, refs: dict[str, str]) -> Iterator[Service]:  # noqa: ARG001
    """Provide a service with one engine, and a pod with its labels that serves other weights at the same path."""
    kube.apply(manifest("tried", cache={"selfTest": "Enabled"}))
    one = Service(kube, "tried")
    redraw_weights(kube, refs, "tiny", "redrawn", seed=7)
    add_stray(one, "redrawn", wait_until("the engine's gate has chosen a path", lambda: model_path(one), seconds=120))
    one.wait("Ready", "True")
    yield one
    kube.run("delete", "llmcs", one.name)
    kube.run("delete", "pod", STRAY, "--ignore-not-found", "--grace-period=1", "--wait=false")


def test_wrong_kv_is_named_until_the_engine_that_causes_it_is_gone(tried: Service) -> None:
    (engine,) = [name for name in tried.engines() if name != STRAY]
    wait_until(f"pod {STRAY} is ready", lambda: is_ready(tried, STRAY), seconds=READY_SECONDS)

    found = tried.wait(SHARING, "False", "WrongKV", seconds=60)
    assert engine in found["message"]
    assert STRAY in found["message"]
    assert "different weights" in found["message"]
    assert tried.condition("Ready")["status"] == "True"
    assert "WrongKV" in tried.kube.run("events", "--for", f"llmcs/{tried.name}", "--types=Warning")
    assert counters.read(tried.kube, engine).server > 0
    assert "hitRatePercent" not in tried.status()["cache"], "the self-test's own tokens are no traffic"

    tried.kube.run("delete", "pod", STRAY, "--grace-period=1", "--timeout=60s", seconds=65)
    tried.wait(SHARING, "Unknown", "OneEngine", seconds=60)


def is_ready(service: Service, pod: str) -> bool:
    """Whether a pod answers."""
    return condition(service.kube.get("pod", pod), "Ready").get("status") == "True"


def model_path(service: Service) -> str | None:
    """Return the path at which the one engine of a service sees its model, or None while that is not settled."""
    pods = service.engines()
    try:
        return service.kube.run("exec", *pods, "-c", "engine", "--", "cat", "/llmcache/run/model-path").strip()
    except ClusterError:
        return None


def add_stray(service: Service, folder: str, path: str) -> None:
    """Add an engine that serves a folder of the claim at a path of choice, which the operator's gate would never do."""
    template: Json = (service.kube.get("deployment", f"{service.name}-engine") or {})["spec"]["template"]
    disguise(spec := template["spec"], folder, path)
    metadata = {"name": STRAY, "labels": template["metadata"]["labels"]}
    service.kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
