"""An LLMCacheService in a cluster without nodes: tests say what controllers and kubelets would."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from e2e.kube import condition, wait_until

if TYPE_CHECKING:
    from e2e.kube import Json, Kube

KINDS = "deployments,statefulsets,services,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets"
CHILDREN = frozenset(
    {
        *("Deployment/chat-engine", "Deployment/chat-router", "StatefulSet/chat-cache"),
        *("Service/chat-engine", "Service/chat-router", "Service/chat-cache"),
        *("ServiceAccount/chat-router", "Role/chat-router", "RoleBinding/chat-router"),
        *("NetworkPolicy/chat-engine", "NetworkPolicy/chat-router", "NetworkPolicy/chat-cache"),
        *("PodDisruptionBudget/chat-engine", "PodDisruptionBudget/chat-router", "PodDisruptionBudget/chat-cache"),
    }
)
SECONDS = 20.0


def manifest(**spec: Any) -> Json:
    """Return a service that is valid, and what a test adds to its spec."""
    return {
        "apiVersion": "llmcache.dev/v1alpha1",
        "kind": "LLMCacheService",
        "metadata": {"name": "chat"},
        "spec": {"model": {"uri": "pvc://models/tiny"}, "engine": {"replicas": 2}} | spec,
    }


@dataclass(frozen=True)
class Chat:
    """The service `chat` of a namespace."""

    kube: Kube

    def apply(self, **spec: Any) -> None:
        """Create it, or make it exactly this."""
        self.kube.apply(manifest(**spec))

    def live(self) -> Json | None:
        """The resource as it is."""
        return self.kube.get("llmcs", "chat")

    def children(self) -> dict[str, Json]:
        """What the operator made, by kind/name."""
        items = json.loads(self.kube.run("get", KINDS, "-o", "json"))["items"]
        owned = [item for item in items if item["metadata"].get("ownerReferences")]
        return {f"{item['kind']}/{item['metadata']['name']}": item for item in owned}

    def wait_for_children(self, names: frozenset[str] = CHILDREN) -> dict[str, Json]:
        """Wait until exactly these are there."""
        self.until("the children are there", lambda: self.children().keys() == names)
        return self.children()

    def condition(self, kind: str) -> Json:
        """One condition of the resource; empty where there is none of that type."""
        return condition(self.live(), kind)

    def until(self, what: str, probe: Any, *, seconds: float = SECONDS) -> None:
        """Wait until something is so."""
        wait_until(what, probe, seconds=seconds, every=0.1)

    def until_ready(self) -> None:
        """Report all pods as ready, and wait until the resource says so too."""
        self.wait_for_children()

        def ready() -> bool:
            self.report_pods()
            live = self.live() or {}
            seen = live.get("status", {}).get("observedGeneration") == live["metadata"]["generation"]
            return seen and condition(live, "Ready").get("status") == "True"

        self.until("Ready", ready)

    def report_pods(self) -> None:
        """Say of every workload what its controller would once all pods are ready."""
        for child in self.children().values():
            if child["kind"] in {"Deployment", "StatefulSet"}:
                wanted = child["spec"]["replicas"]
                names = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
                status = dict.fromkeys(names, wanted) | {"observedGeneration": child["metadata"]["generation"]}
                patch = json.dumps({"status": status})
                name = f"{child['kind']}/{child['metadata']['name']}"
                self.kube.run("patch", name, "--subresource=status", "--type=merge", "-p", patch)
