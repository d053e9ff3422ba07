"""One prompt asked of one engine: how long, where its tokens came from, and what it cost."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from e2e import counters
from e2e.valkey import CHUNK

if TYPE_CHECKING:
    from e2e.counters import Tokens
    from e2e.services import Service

KV_BYTES = 23_040
"""Of a token of SmolLM2-135M: 2 x 30 layers x 3 heads x 64 x 2 bytes."""
# The nanoseconds of CPU that a container has used, from whichever version of cgroups there is.
_CPU = (
    "cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || awk '/^usage_usec/{print $2*1000}' /sys/fs/cgroup/cpu.stat"
)
_ASK_SECONDS = 300
_SETTLE_SECONDS = 2
"""Reading what containers have used starts processes in them; and a worker of vLLM spins for a second after its last
step. Neither may go on beside what is timed."""
_VOCABULARY = range(1000, 49_000)
"""Of SmolLM2's tokens, those that are neither special nor single bytes."""

PASSIVE = [{"name": "OMP_WAIT_POLICY", "value": "PASSIVE"}]
"""An engine's environment. PyTorch's threads spin while they wait for each other, and vLLM's scheduler while it waits
for them: on two cores, whom they waited for had to wait for a turn, and the first token of one prompt took 0.15 to 1.1
seconds."""

Prompt = str | list[int]


@dataclass(frozen=True)
class Asked:
    """`seconds` to the one token asked for; `cpu`: seconds of CPU in all containers that have to do with it."""

    seconds: float
    cpu: float
    tokens: Tokens

    @property
    def megabytes_a_second(self) -> float:
        """KV that came from LMCache, by time."""
        return self.tokens.server * KV_BYTES / 1e6 / self.seconds


def prompt(words: int) -> str:
    """Return a prompt of some 4.5 tokens a word with SmolLM2's tokenizer that nobody has sent before."""
    return f"{uuid.uuid4()}: " + " ".join(f"there were {number} small boats," for number in range(words // 2))


def whole_chunks(count: int) -> list[int]:
    """Return a prompt of so many chunks of LMCache and a token, which vLLM computes anyway, never sent before."""
    return random.choices(_VOCABULARY, k=count * CHUNK + 1)  # noqa: S311 (not for secrets)


def first_token(service: Service, engine: str, text: Prompt) -> float:
    """Ask one engine directly, by the address of its pod, for one token; return the seconds that it took."""
    pod = service.kube.get("pod", engine)
    assert pod is not None
    url = f"http://{pod['status']['podIP']}:{counters.ENGINE_PORT}/v1/completions"
    body = {"model": service.name, "prompt": text, "max_tokens": 1, "temperature": 0}
    # A client takes 50 ms to be made, for the certificates that it reads.
    with httpx.Client(timeout=_ASK_SECONDS, trust_env=False) as client:
        begin = time.monotonic()
        client.post(url, json=body).raise_for_status()
        return time.monotonic() - begin


def ask(service: Service, engine: str, text: Prompt) -> Asked:
    """Ask one engine, and tell where its tokens came from and what it cost."""
    before, spent = counters.read(service.kube, engine), cpu_seconds(service)
    time.sleep(_SETTLE_SECONDS)
    seconds = first_token(service, engine, text)
    return Asked(seconds, cpu_seconds(service) - spent, counters.read(service.kube, engine) - before)


def cpu_seconds(service: Service) -> float:
    """Return the CPU that all running containers of engines, LMCache servers and stores have used so far."""
    total = 0.0
    for part in ("engine", "cache-server", "valkey"):
        for pod in service.kube.pods(service.name, part):
            status = pod["status"]
            for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
                if "running" in one["state"]:
                    name = pod["metadata"]["name"]
                    text = service.kube.run("exec", name, "-c", one["name"], "--", "sh", "-c", _CPU)
                    total += float(text) / 1e9
    return total
