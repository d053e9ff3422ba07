"""Pods as a kubelet would report them, in a cluster that has none."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2e.causes.fake.api import Api
    from e2e.kube import Json


@dataclass
class Reported:
    """What was last said of a pod."""

    component: str
    address: str
    restarts: int = 0
    ready: bool = True
    since: str = ""


@dataclass
class Kubelet:
    """Makes pods of one namespace and reports on them."""

    api: Api
    pods: dict[str, Reported] = field(default_factory=dict)

    def make(self, name: str, component: str, address: str, template: Json) -> None:
        """Make a pod that is ready, in the place of one of that name."""
        self.api.delete("pods", name)
        meta = {key: template["metadata"].get(key, {}) for key in ("labels", "annotations")}
        spec = template["spec"] | {"automountServiceAccountToken": False}
        self.api.create("pods", {"metadata": {"name": name, **meta}, "spec": spec})
        self.pods[name] = Reported(component, address, since=_now())
        self.report(name)

    def report(self, name: str, *, ready: bool = True, restarted: bool = False) -> None:
        """Say whether a pod answers, and that its container has started again."""
        pod, now = self.pods[name], _now()
        if restarted or ready != pod.ready:
            pod.since = now
        pod.restarts += restarted
        pod.ready = ready
        scheduled = dict.fromkeys(("PodScheduled", "Initialized"), "True")
        answers = dict.fromkeys(("ContainersReady", "Ready"), str(ready))
        container: Json = {
            "name": pod.component,
            "image": "example.org/fake:1",
            "imageID": "",
            "ready": ready,
            "started": True,
            "restartCount": pod.restarts,
            "state": {"running": {"startedAt": pod.since}},
        }
        conditions = [
            {"type": kind, "status": status, "lastTransitionTime": pod.since}
            for kind, status in (scheduled | answers).items()
        ]
        status = {
            "phase": "Running",
            "podIP": pod.address,
            "podIPs": [{"ip": pod.address}],
            "startTime": pod.since,
            "conditions": conditions,
            "containerStatuses": [container],
        }
        self.api.merge("pods", name, {"status": status}, subresource="status")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
