"""Why a service is stuck: an ordered list of small checks over what the API server, workloads and pods say.

Each check returns findings that name the cause and what to do. The first finding becomes the reason of Stalled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.moment import age
from llmcache_operator.core.pod_diagnosis import pod_findings
from llmcache_operator.core.target import COMPONENT_LABEL, Component
from llmcache_operator.core.values import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmcache_operator.core.values import Json, Observed, Rejection

PODLESS_SECONDS = 15.0
_QUOTA = "exceeded quota"
# Source: k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go and the RBAC escalation check. Admission
# webhooks and policies answer 403 too, but don't talk about the operator's account.
_NO_PERMISSION = re.compile(r'[Uu]ser "[^"]*".*(cannot |attempting to grant)', re.DOTALL)


def diagnose(observed: Observed, rejections: Iterable[Rejection], now: float) -> tuple[Finding, ...]:
    """Return all causes found, the most telling first; the order of what was observed says nothing."""
    pods = sorted(observed.pods, key=lambda pod: str(pod["metadata"]["name"]))
    children = sorted(observed.children, key=lambda obj: (str(obj["kind"]), str(obj["metadata"]["name"])))
    findings = [
        *(_rejected(rejection) for rejection in rejections),
        *(finding for pod in pods for finding in pod_findings(pod, observed.complaints, now)),
        *(finding for child in children for finding in _refused_pods(child)),
        *(finding for child in children for finding in _podless(child, now)),
    ]
    return _one_per_cause(findings)


def _one_per_cause(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Keep the first of those that differ only in the object: two pods of one template fail alike."""
    first: dict[tuple[str | None, Reason], Finding] = {}
    for finding in findings:
        first.setdefault((finding.component, finding.reason), finding)
    return tuple(first.values())


def _rejected(rejection: Rejection) -> Finding:
    """Tell what the API server had against a child."""
    child = f"{rejection.ref.kind} {rejection.ref.name}"
    said = rejection.message.rstrip(".")
    reason = Reason.CHILD_REJECTED
    text = f"The API server refused {child}: {said}. Correct the field it names in this service's spec."
    if rejection.reason == Reason.NAME_TAKEN:
        reason = Reason.NAME_TAKEN
        text = f"{child} exists and belongs to somebody else. Rename or delete it, or rename this service."
    elif _QUOTA in rejection.message:
        reason = Reason.QUOTA_EXCEEDED
        text = f"A ResourceQuota refuses {child}: {said}. Raise the quota or ask for less."
    elif rejection.code == 403 and _NO_PERMISSION.search(rejection.message):
        reason = Reason.OPERATOR_FORBIDDEN
        text = f"The operator may not write {child}: {said}. Mend its ClusterRole (deploy/)."
    return Finding(_component_of_name(rejection.ref.name), reason, text, rejected=True)


def _component_of_name(name: str) -> str | None:
    suffixes = {
        "engine": Component.ENGINE,
        "cache": Component.CACHE_SERVER,
        "router": Component.ROUTER,
        "valkey": Component.VALKEY,
    }
    component = suffixes.get(name.rsplit("-", 1)[-1])
    return component.value if component else None


def _refused_pods(child: Json) -> Iterator[Finding]:
    """Tell why a Deployment's pods can't be made: quota, LimitRange or Pod Security."""
    component = child["metadata"].get("labels", {}).get(COMPONENT_LABEL)
    for condition in child.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            text = condition.get("message", "").rstrip(".")
            reason = Reason.QUOTA_EXCEEDED if _QUOTA in text else Reason.PODS_REJECTED
            advice = "Raise the quota or ask for less." if reason is Reason.QUOTA_EXCEEDED else "Mend what it names."
            yield Finding(component, reason, f"Pods of {child['metadata']['name']} are refused: {text}. {advice}")


def _podless(child: Json, now: float) -> Iterator[Finding]:
    """Tell of a StatefulSet that gets no pod: it has no condition for it, so only its Events hold the cause.

    Its controller makes a pod and counts it in one go, so a pod that is merely replaced is never missed here.
    """
    meta, status = child["metadata"], child.get("status", {})
    seen = status.get("observedGeneration", 0) >= meta.get("generation", 1)
    if child["kind"] != "StatefulSet" or not seen or status.get("replicas") or not child["spec"].get("replicas"):
        return
    if age(meta.get("creationTimestamp"), now) >= PODLESS_SECONDS:
        name = meta["name"]
        text = (
            f"StatefulSet {name} gets no pod, mostly for a quota, a LimitRange or Pod Security. "
            f"See: kubectl describe statefulset {name}"
        )
        yield Finding(meta.get("labels", {}).get(COMPONENT_LABEL), Reason.PODS_REJECTED, text)
