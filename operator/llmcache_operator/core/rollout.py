"""How far a Deployment or StatefulSet has come, read as `kubectl rollout status` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json


@dataclass(frozen=True, slots=True)
class Rollout:
    """Pods wanted and ready, and whether all of them are of the latest template."""

    desired: int
    ready: int
    settled: bool

    @property
    def complete(self) -> bool:
        """Whether every pod that is wanted is there, up to date and ready."""
        return self.settled and self.ready >= self.desired


def rollout(workload: Json | None, desired: int | None) -> Rollout:
    """Return how far a workload has come; `desired` replaces its own count where the spec gives one.

    A workload that is not there yet has nothing ready. Source: kubectl's rollout_status.go.
    """
    if workload is None:
        return Rollout(1 if desired is None else desired, 0, settled=False)
    spec, status = workload.get("spec", {}), workload.get("status", {})
    if workload.get("kind") == "DaemonSet":
        return _of_nodes(workload)
    wanted: int = spec.get("replicas", 1) if desired is None else desired
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    updated = status.get("updatedReplicas", 0) >= wanted
    left_over = status.get("replicas", 0) > wanted
    return Rollout(wanted, status.get("readyReplicas", 0), settled=seen and updated and not left_over)


def _of_nodes(workload: Json) -> Rollout:
    status = workload.get("status", {})
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    wanted = status.get("desiredNumberScheduled", 0)
    updated = status.get("updatedNumberScheduled", 0) >= wanted
    return Rollout(wanted, status.get("numberReady", 0), settled=seen and updated)
