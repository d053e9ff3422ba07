"""Events as a real API server takes them: a series on one object, and nothing that its validation refuses."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from llmcache_operator.core.values import Transition
from llmcache_operator.edge.cluster import HttpCluster
from llmcache_operator.edge.events import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from e2e.kube import Json, Kube


@pytest.fixture
def resource(kube: Kube) -> Json:
    """What the Events are about."""
    meta = {"name": "chat", "namespace": kube.namespace, "uid": "uid-1"}
    return {"apiVersion": "llmcache.dev/v1alpha1", "kind": "LLMCacheService", "metadata": meta}


@asynccontextmanager
async def recording(kubeconfig: Path, instance: str) -> AsyncIterator[Recorder]:
    configuration = Configuration()
    await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration, persist_config=False)

    async def admit() -> None:
        """Let every write pass."""

    async with ApiClient(configuration) as client:
        yield Recorder(HttpCluster(client, admit), instance)


def events(kube: Kube) -> list[Json]:
    items: list[Json] = json.loads(kube.run("get", "events.events.k8s.io", "-o", "json"))["items"]
    return items


async def test_what_repeats_is_one_object_that_counts(kube: Kube, operator_kubeconfig: Path, resource: Json) -> None:
    async with recording(operator_kubeconfig, "operator-0") as recorder:
        for number in range(1, 4):
            await recorder.post(resource, Transition("Normal", "Available", f"{number} of {number} engines ready"))

    [event] = events(kube)
    assert (event["reason"], event["note"], event["series"]["count"]) == ("Available", "1 of 1 engines ready", 3)
    assert "x3 over" in kube.run("events")


async def test_long_texts_are_taken(kube: Kube, operator_kubeconfig: Path, resource: Json) -> None:
    async with recording(operator_kubeconfig, "pod-" * 60) as recorder:
        await recorder.post(resource, Transition("Warning", "Unschedulable", "漢" * 2000))

    [event] = events(kube)
    assert len(event["note"]) == 1024 // 3
