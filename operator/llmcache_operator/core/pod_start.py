"""Why a pod that has a node gets no containers: for a volume or the network, which only the pod's Events explain.

Messages: pkg/volume/secret, pkg/volume/configmap and pkg/kubelet/kubelet_pods.go of k8s.io/kubernetes 1.37.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.moment import age
from llmcache_operator.core.target import COMPONENT_LABEL
from llmcache_operator.core.values import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmcache_operator.core.values import Complaint, Json

# One `kubectl apply` may make the Secret right after the service; the kubelet tries again within seconds.
MISSING_SECONDS = 10.0
NOT_STARTING_SECONDS = 60.0
# The kubelet tries a volume again at least every 122 s (pkg/volume/util/operationexecutor): older words may be over.
LATELY_SECONDS = 150.0


def unstarted(pod: Json) -> bool:
    """Whether a pod has a node but no sandbox.

    A pod that pulls its images has its sandbox already (condition PodReadyToStartContainers) and is fine.
    """
    status = pod.get("status", {})
    states = [
        container.get("state", {})
        for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
    ]
    waiting = {state.get("waiting", {}).get("reason") for state in states} & {"ContainerCreating", "PodInitializing"}
    begun = any("running" in state or "terminated" in state for state in states)
    sandbox = ("PodReadyToStartContainers", "True")
    has_sandbox = any((c["type"], c["status"]) == sandbox for c in status.get("conditions", []))
    return bool(waiting) and not begun and not has_sandbox


def worth_asking(pods: Iterable[Json], now: float) -> tuple[Json, ...]:
    """Return the pods whose Events are the only ones to know: one of each component, since all fail alike."""
    first: dict[str, Json] = {}
    for pod in pods:
        if unstarted(pod) and _waited(pod, now) >= MISSING_SECONDS:
            first.setdefault(pod["metadata"].get("labels", {}).get(COMPONENT_LABEL, ""), pod)
    return tuple(first.values())


def unstarted_findings(pod: Json, component: str, complaints: Iterable[Complaint], now: float) -> Iterator[Finding]:
    """Yield what keeps a pod from getting containers, by what the kubelet said of it lately."""
    if not unstarted(pod):
        return
    name, uid, waited = pod["metadata"]["name"], pod["metadata"].get("uid"), _waited(pod, now)
    said = [c.message.rstrip(".") for c in complaints if c.pod_uid == uid and now - c.at < LATELY_SECONDS]
    advice = "Create it, or correct the reference."
    for message in said:
        if waited >= MISSING_SECONDS and (what := secret_missing(message, pod)):
            yield Finding(component, Reason.SECRET_MISSING, f"Pod {name}: {what}. {advice}")
            return
        if waited >= MISSING_SECONDS and (what := config_map_missing(message, pod)):
            yield Finding(component, Reason.CONFIG_MAP_MISSING, f"Pod {name}: {what}. {advice}")
            return
    if waited >= NOT_STARTING_SECONDS:
        why = said[0] if said else "mostly for a volume or Secret"
        text = f"Pod {name} has a node but does not start: {why}. See: kubectl describe pod {name}"
        yield Finding(component, Reason.POD_NOT_STARTING, text)


def secret_missing(message: str, pod: Json | None = None) -> str | None:
    """Return in words which Secret or key is missing, if that is what the kubelet says."""
    found = _missing(message, r"[Ss]ecret", r"references non-existent secret key: (\S+)")
    if found is None:
        return None
    name, key = found
    name = name or _volume(message, pod).get("secret", {}).get("secretName", "of the volume")
    return f"Secret {name} has no key {key}" if key else f"Secret {name} does not exist"


def config_map_missing(message: str, pod: Json | None = None) -> str | None:
    """Return in words which ConfigMap or key is missing, if that is what the kubelet says."""
    found = _missing(message, r"[Cc]onfig[Mm]ap", r"references non-existent config key: (\S+)")
    if found is None:
        return None
    name, key = found
    name = name or _volume(message, pod).get("configMap", {}).get("name", "of the volume")
    return f"ConfigMap {name} has no key {key}" if key else f"ConfigMap {name} does not exist"


def _missing(message: str, kind: str, volume_key: str) -> tuple[str | None, str | None] | None:
    """Return name and key that are missing, of which a volume's message names one only."""
    if match := re.search(rf'{kind} "([^"]+)" not found', message):
        return match[1], None
    if match := re.search(rf"couldn't find key (\S+) in {kind} (\S+)", message):
        return match[2], match[1]
    if match := re.search(volume_key, message):
        return None, match[1]
    return None


def _volume(message: str, pod: Json | None) -> Json:
    match = re.search(r'for volume "([^"]+)"', message)
    volumes = (pod or {}).get("spec", {}).get("volumes", [])
    return next((volume for volume in volumes if match and volume["name"] == match[1]), {})


def _waited(pod: Json, now: float) -> float:
    return age(pod["status"].get("startTime"), now)
