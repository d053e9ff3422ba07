"""LLMCacheServices for tests, and what tests ask of one that is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from e2e import counters
from e2e.kube import condition, wait_until
from llmcache_operator.api.service import PAUSED_ANNOTATION

if TYPE_CHECKING:
    from e2e.counters import Tokens
    from e2e.kube import Json, Kube

READY_SECONDS = 420.0
TINY = "pvc://models/tiny"
SMOL = "pvc://models/smollm2-135m"
CLAIM: Json = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "kv"},
    "spec": {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "standard",
        "resources": {"requests": {"storage": "4Gi"}},
    },
}
ROUNDING = 0.05
"""Log probabilities of bfloat16 logits: a prefix from a cache is multiplied in other shapes than a computed one."""


def manifest(name: str, **parts: Any) -> Json:
    """Return a small service of the tiny model on CPUs; `parts` are laid over its spec, section by section.

    The self-test is off, because tests count the engines' prompt tokens themselves.
    """
    spec: Json = {
        "model": {"uri": TINY, "revision": "1"},
        "engine": {
            "replicas": 1,
            "device": "CPU",
            "dtype": "bfloat16",
            "maxModelLen": 4096,
            "kvCacheMemory": "256Mi",
            "resources": {"requests": {"cpu": "100m", "memory": "2Gi"}, "limits": {"memory": "6Gi"}},
        },
        "cache": {"memory": "512Mi", "cpu": "100m", "selfTest": "Disabled"},
        "router": {"replicas": 1, "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
    }
    for part, values in parts.items():
        spec[part] = {**spec.get(part, {}), **values} if isinstance(values, dict) else values
    return {
        "apiVersion": "llmcache.dev/v1alpha1",
        "kind": "LLMCacheService",
        "metadata": {"name": name},
        "spec": spec,
    }


@dataclass(frozen=True)
class Answer:
    """First-token log probabilities of one prompt, and where its tokens came from."""

    top: dict[str, float]
    tokens: Tokens

    def is_like(self, other: Answer) -> bool:
        """Whether the first tokens are the same but for rounding, which may swap the last with the next."""
        shared = self.top.keys() & other.top.keys()
        near = all(abs(self.top[token] - other.top[token]) <= ROUNDING for token in shared)
        return near and len(shared) >= len(self.top) - 1


@dataclass(frozen=True)
class Service:
    """One LLMCacheService in a cluster."""

    kube: Kube
    name: str

    def resource(self) -> Json:
        """Return the resource; raises LookupError when it is gone."""
        found = self.kube.get("llmcs", self.name)
        if found is None:
            raise LookupError(f"llmcs/{self.name} is gone")
        return found

    def status(self) -> Json:
        """Return its status."""
        status: Json = self.resource().get("status", {})
        return status

    def condition(self, kind: str) -> Json:
        """Return one of its conditions, or an empty one."""
        return condition(self.kube.get("llmcs", self.name), kind)

    def patch(self, spec: Json) -> None:
        """Merge a change into its spec."""
        self.kube.run("patch", "llmcs", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def wait(self, kind: str, status: str, reason: str | None = None, seconds: float = READY_SECONDS) -> Json:
        """Wait until a condition of the current generation has a status (and a reason), and return it."""

        def holds() -> Json | None:
            resource = self.resource()
            found = condition(resource, kind)
            current = found.get("observedGeneration") == resource["metadata"]["generation"]
            right = found.get("status") == status and reason in (None, found.get("reason"))
            return found if current and right else None

        try:
            return wait_until(f"{kind}={status} ({reason})", holds, seconds=seconds)
        except TimeoutError as error:
            text = json.dumps(self.status().get("conditions", []), indent=1)
            raise TimeoutError(f"llmcs/{self.name}: {error}; its conditions: {text}") from error

    def pause(self) -> None:
        """Let the operator leave the children as they are."""
        self.kube.run("annotate", "llmcs", self.name, f"{PAUSED_ANNOTATION}=true")
        self.wait("Paused", "True", seconds=60)

    def go_on(self) -> None:
        """Let the operator put right what was changed."""
        self.kube.run("annotate", "llmcs", self.name, f"{PAUSED_ANNOTATION}-")

    def engines(self) -> list[str]:
        """Return the names of its engine pods."""
        return [pod["metadata"]["name"] for pod in self.kube.pods(self.name, "engine")]

    def renewed(self, old: list[str]) -> list[str]:
        """Wait until as many other engines are ready as there were, and return their names."""

        def ready() -> list[str] | None:
            engines = [name for name in self.engines() if name not in old]
            return engines if len(engines) == len(old) and all(map(self.kube.is_ready, engines)) else None

        return wait_until(f"{len(old)} new engines", ready, seconds=READY_SECONDS)

    def ask_engine(self, pod: str, prompt: str) -> Answer:
        """Send a prompt to one engine, past the router."""
        before = counters.read(self.kube, pod)
        with self.kube.forward(f"pod/{pod}", counters.ENGINE_PORT) as url:
            body = {"model": self.name, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5}
            answer = httpx.post(f"{url}/v1/completions", json=body, timeout=120, trust_env=False)
        answer.raise_for_status()
        top: dict[str, float] = answer.json()["choices"][0]["logprobs"]["top_logprobs"][0]
        return Answer(top, counters.read(self.kube, pod) - before)
