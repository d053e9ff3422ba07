"""Why a service is stuck: an ordered list of small checks over what the API server, pods and workloads say.

Each check returns findings that name the cause and what to do. The first finding becomes the reason of Stalled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.target import COMPONENT_LABEL, Component

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmcache_operator.core.values import Json, Observed, Rejection

# Schedulers and volume binders need a moment; a cause that holds longer is one that somebody must see to.
UNSCHEDULABLE_SECONDS = 15.0
NOT_STARTING_SECONDS = 60.0

_CRASHING = {
    Component.ENGINE.value: Reason.ENGINE_CRASHING,
    Component.CACHE_SERVER.value: Reason.CACHE_SERVER_CRASHING,
    Component.ROUTER.value: Reason.ROUTER_CRASHING,
}
_INIT_FAILURES = {"gate": Reason.MODEL_UNUSABLE, "fetch": Reason.MODEL_FETCH_FAILED}
_MEMORY_FIELD = {
    Component.ENGINE.value: "spec.engine.resources.limits.memory",
    Component.CACHE_SERVER.value: "spec.cache.memory",
    Component.ROUTER.value: "spec.router.resources.limits.memory",
}
_IMAGE_FIELD = {
    Component.ENGINE.value: "spec.engine.image",
    Component.CACHE_SERVER.value: "spec.cache.image",
    Component.ROUTER.value: "the operator's router image",
}
_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError")
_CRASH_REASONS = ("CrashLoopBackOff", "RunContainerError")
# Between two crashes a container runs for a moment: from the second on, that is no news.
CRASHES = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause: which component it stops (None: the service as a whole), its reason and what to tell people."""

    component: str | None
    reason: Reason
    message: str


def diagnose(observed: Observed, rejections: Iterable[Rejection], now: float) -> tuple[Finding, ...]:
    """Return all causes found, the most telling first."""
    pods = [pod for pod in observed.pods if "deletionTimestamp" not in pod["metadata"]]
    findings = [
        *(_rejected(rejection) for rejection in rejections),
        *(finding for pod in pods for finding in _pod_findings(pod, now)),
        *(finding for child in observed.children for finding in _refused_pods(child)),
    ]
    return _one_per_cause(findings)


def _one_per_cause(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Keep the first of those that differ only in the pod: two pods of one template fail alike."""
    first: dict[tuple[str | None, Reason], Finding] = {}
    for finding in findings:
        first.setdefault((finding.component, finding.reason), finding)
    return tuple(first.values())


def _rejected(rejection: Rejection) -> Finding:
    """Tell what the API server had against a child."""
    child = f"{rejection.ref.kind} {rejection.ref.name}"
    component = _component_of_name(rejection.ref.name)
    if rejection.reason == Reason.NAME_TAKEN:
        text = f"{child} exists and belongs to somebody else. Rename or delete it, or rename this service."
        return Finding(component, Reason.NAME_TAKEN, text)
    if "exceeded quota" in rejection.message:
        text = f"A ResourceQuota refuses {child}: {rejection.message}. Raise the quota or ask for less."
        return Finding(component, Reason.QUOTA_EXCEEDED, text)
    if rejection.code == 403:
        text = f"The operator may not write {child}: {rejection.message}. Mend its ClusterRole (deploy/)."
        return Finding(component, Reason.OPERATOR_FORBIDDEN, text)
    text = f"The API server refused {child}: {rejection.message}. Correct the field it names in this service's spec."
    return Finding(component, Reason.CHILD_REJECTED, text)


def _component_of_name(name: str) -> str | None:
    suffixes = {"engine": Component.ENGINE, "cache": Component.CACHE_SERVER, "router": Component.ROUTER}
    component = suffixes.get(name.rsplit("-", 1)[-1])
    return component.value if component else None


def _refused_pods(child: Json) -> Iterator[Finding]:
    """Tell why a Deployment's pods can't be made: quota, LimitRange or Pod Security."""
    component = child["metadata"].get("labels", {}).get(COMPONENT_LABEL)
    for condition in child.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            text = condition.get("message", "")
            reason = Reason.QUOTA_EXCEEDED if "exceeded quota" in text else Reason.PODS_REJECTED
            advice = "Raise the quota or ask for less." if reason is Reason.QUOTA_EXCEEDED else "Mend what it names."
            yield Finding(component, reason, f"Pods of {child['metadata']['name']} are refused: {text}. {advice}")


def _pod_findings(pod: Json, now: float) -> Iterator[Finding]:
    component = pod["metadata"]["labels"].get(COMPONENT_LABEL, "")
    name = pod["metadata"]["name"]
    yield from _unscheduled(pod, component, name, now)
    status = pod.get("status", {})
    found = False
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        for finding in _container_findings(container, component, name):
            found = True
            yield finding
    if not found:
        yield from _not_starting(pod, component, name, now)


def _unscheduled(pod: Json, component: str, name: str, now: float) -> Iterator[Finding]:
    for condition in pod.get("status", {}).get("conditions", []):
        stuck = condition["type"] == "PodScheduled" and condition["status"] == "False"
        if not stuck or _age(condition.get("lastTransitionTime"), now) < UNSCHEDULABLE_SECONDS:
            continue
        message = condition.get("message", "")
        if claim := re.search(r'persistentvolumeclaim "([^"]+)" not found', message):
            text = (
                f"Pod {name} waits for PersistentVolumeClaim {claim[1]}, which does not exist. "
                "Create it, or correct the claim in spec.model.uri."
            )
            yield Finding(component, Reason.VOLUME_CLAIM_MISSING, text)
        else:
            text = f"Pod {name} fits on no node: {message} Ask for less, or add a node that has it."
            yield Finding(component, Reason.UNSCHEDULABLE, text)


def _container_findings(container: Json, component: str, pod: str) -> Iterator[Finding]:
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    where = f"Pod {pod}, container {container['name']}"
    if reason in _PULL_REASONS:
        field = _IMAGE_FIELD.get(component, "its image")
        text = f"{where}: image {container['image']} can't be pulled: {message}. Correct {field}, or its pull secret."
        yield Finding(component, Reason.IMAGE_PULL_FAILED, text)
    elif reason in _CONFIG_REASONS:
        yield _misconfigured(component, where, message)
    elif reason in _CRASH_REASONS or _keeps_crashing(container):
        yield _crashing(container, component, where)


def _keeps_crashing(container: Json) -> bool:
    """Whether a container that seems to run now has ended in failure more than once and never got ready since."""
    last = container.get("lastState", {}).get("terminated", {})
    done = container.get("state", {}).get("terminated", {}).get("exitCode") == 0
    tries: int = container.get("restartCount", 0)
    return tries >= CRASHES and last.get("exitCode", 0) != 0 and not container.get("ready") and not done


def _misconfigured(component: str, where: str, message: str) -> Finding:
    if match := re.search(r'secret "([^"]+)" not found|couldn\'t find key (\S+) in Secret (\S+)', message):
        what = f"Secret {match[1]} does not exist" if match[1] else f"Secret {match[3]} has no key {match[2]}"
        return Finding(component, Reason.SECRET_MISSING, f"{where}: {what}. Create it, or correct the reference.")
    if match := re.search(r'configmap "([^"]+)" not found|couldn\'t find key (\S+) in ConfigMap (\S+)', message):
        what = f"ConfigMap {match[1]} does not exist" if match[1] else f"ConfigMap {match[3]} has no key {match[2]}"
        return Finding(component, Reason.CONFIG_MAP_MISSING, f"{where}: {what}. Create it, or correct the reference.")
    return Finding(component, Reason.CONTAINER_CONFIG_INVALID, f"{where} can't be started: {message}.")


def _crashing(container: Json, component: str, where: str) -> Finding:
    last = container.get("lastState", {}).get("terminated", {})
    waiting = container.get("state", {}).get("waiting", {})
    said = _tail(last.get("message", "") or (waiting.get("message", "") if not last else ""))
    if last.get("reason") == "OOMKilled":
        text = f"{where} was killed for using more memory than its limit. Raise {_MEMORY_FIELD.get(component)}."
        return Finding(component, Reason.OUT_OF_MEMORY, text)
    reason = _INIT_FAILURES.get(container["name"], _CRASHING.get(component, Reason.CONTAINER_CONFIG_INVALID))
    words = (
        f": {said}"
        if said
        else f". See: kubectl logs {where.split(',', maxsplit=1)[0].removeprefix('Pod ')} --previous"
    )
    return Finding(component, reason, f"{where} ends with exit code {last.get('exitCode')}{words}")


def _tail(message: str, limit: int = 600) -> str:
    """Return the last lines of a container's output, where programs say why they end."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    text = " | ".join(lines)
    return text if len(text) <= limit else "…" + text[-limit:]


def _not_starting(pod: Json, component: str, name: str, now: float) -> Iterator[Finding]:
    """Tell of a pod that has a node but whose containers don't come: a volume, mostly, which only Events explain."""
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    reasons = {container.get("state", {}).get("waiting", {}).get("reason") for container in containers}
    started = any("running" in c.get("state", {}) or "terminated" in c.get("state", {}) for c in containers)
    if started or "ContainerCreating" not in reasons | {"ContainerCreating" if "PodInitializing" in reasons else None}:
        return
    if _age(status.get("startTime"), now) >= NOT_STARTING_SECONDS:
        text = (
            f"Pod {name} has a node but does not start, mostly for a volume or Secret. See: kubectl describe pod {name}"
        )
        yield Finding(component, Reason.POD_NOT_STARTING, text)


def _age(timestamp: str | None, now: float) -> float:
    if not timestamp:
        return 0.0
    return now - datetime.fromisoformat(timestamp).timestamp()
