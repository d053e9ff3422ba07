"""A service in a cluster in memory, an operator that may die, and the state that all should end in."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from llmcache_operator.core.values import Json, SelfTest, ServiceKey, Settings
from llmcache_operator.edge.errors import RetryLaterError
from llmcache_operator.edge.events import Recorder
from llmcache_operator.edge.intent import MARK
from llmcache_operator.edge.measuring import MeasurementBook
from llmcache_operator.edge.metrics import Metrics
from llmcache_operator.edge.reconcile import RESYNC, Reconciler
from tests.edge.fake_cluster import Crash, FakeCluster

KEY = ServiceKey("ns", "chat")
SETTINGS = Settings(engine_image="engine:1", cache_server_image="cache:1", router_image="router:1")
WORKLOADS = {"Deployment", "StatefulSet"}


def service(**spec: Any) -> Json:
    """A valid LLMCacheService."""
    return {
        "apiVersion": "llmcache.dev/v1alpha1",
        "kind": "LLMCacheService",
        "metadata": {"name": KEY.name, "namespace": KEY.namespace},
        "spec": {"model": {"uri": "pvc://models/smol"}, "engine": {"replicas": 2}, **spec},
    }


class NoSelfTests:
    """This cluster's pods are none that could be asked."""

    def start(self, test: SelfTest) -> None:
        """See `SelfTests`."""
        raise AssertionError(f"a self-test of {test.key}, which has no engines")


@dataclass
class World:
    """The cluster, its clock in seconds, and one operator process at a time."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    settings: Settings = SETTINGS
    now: float = 1_800_000_000.0
    restarts: int = 0
    retries: int = 0
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reconciler = self._process()

    def _process(self) -> Reconciler:
        recorder = Recorder(self.cluster, "operator-0", self.clock)
        return Reconciler(
            self.cluster,
            self.cluster,
            self.settings,
            MeasurementBook(),
            recorder,
            Metrics(),
            NoSelfTests(),
            clock=self.clock,
            jitter=lambda: 0.5,
        )

    def clock(self) -> float:
        """Tell the time."""
        return self.now

    def restart(self) -> None:
        """The process is gone with all it knew; another one starts."""
        self.restarts += 1
        self.reconciler = self._process()

    async def step(self) -> float | None:
        """One reconcile; after a crash or a failure, the time passes that the queue would wait."""
        try:
            return await self.reconciler(KEY)
        except Crash:
            self.restart()
        except RetryLaterError as error:
            self.retries += 1
            self.refused.append(str(error))
            self.now += max(error.after, 1.0)
        return 0.0

    async def settle(self, limit: int = 100) -> None:
        """Reconcile when the operator wants to, and let controllers report, until nothing but the resync is due."""
        for _ in range(limit):
            writes, before = len(self.cluster.calls), self.cluster.objects()
            due = await self.step()
            self._controllers()
            unchanged = len(self.cluster.calls) == writes and self.cluster.objects() == before
            if unchanged and (due is None or due >= RESYNC * 0.9):
                return
            self.now += 1.0 if not unchanged or due is None else due
        raise AssertionError(f"never came to rest; the last writes: {self.cluster.calls[-6:]}")

    def _controllers(self) -> None:
        for obj in self.cluster.objects():
            if obj["kind"] in WORKLOADS:
                wanted = obj["spec"].get("replicas", 1)
                names = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
                status = dict.fromkeys(names, wanted) | {"observedGeneration": obj["metadata"]["generation"]}
                self.cluster.set_status(obj, status)

    def condition(self, kind: str) -> Json:
        """Return a condition of the service; KeyError if it has none of that type."""
        status = self.cluster.find("LLMCacheService", "chat")["status"]
        by_type: dict[str, Json] = {condition["type"]: condition for condition in status["conditions"]}
        return by_type[kind]

    def end_state(self) -> list[Json]:
        """Everything there is, less what differs from run to run without meaning anything."""
        return [_meaning(obj) for obj in self.cluster.objects()]


def _meaning(obj: Json) -> Json:
    obj = copy.deepcopy(obj)
    meta = obj["metadata"]
    for name in ("uid", "resourceVersion", "managedFields", "generation", "creationTimestamp"):
        meta.pop(name, None)
    meta.get("annotations", {}).pop(MARK, None)  # it covers the owner's UID
    for owner in meta.get("ownerReferences", ()):
        owner.pop("uid")
    for condition in obj.get("status", {}).get("conditions", ()):
        condition.pop("lastTransitionTime")
    obj.get("status", {}).pop("observedGeneration", None)
    return obj
