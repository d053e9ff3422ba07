"""A router whose Secret is missing: the kubelet says so in an Event, and the operator may read it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.apiserver.service import Chat

if TYPE_CHECKING:
    from e2e.kube import Json, Kube

pytestmark = pytest.mark.usefixtures("operator")


def time(seconds_ago: float = 0.0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(router: Json) -> Json:
    """A pod of a Deployment, less what only a kubelet would need."""
    template = router["spec"]["template"]
    labels = template["metadata"]["labels"]
    spec = {"containers": [{"name": "router", "image": "router:1"}], "automountServiceAccountToken": False}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "chat-router-0", "labels": labels},
        "spec": spec | {key: template["spec"][key] for key in ("volumes", "serviceAccountName")},
    }


def mount_failed(uid: str, namespace: str, message: str) -> Json:
    """The Event as a kubelet of Kubernetes 1.37 writes it."""
    about = {"apiVersion": "v1", "kind": "Pod", "name": "chat-router-0", "namespace": namespace, "uid": uid}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "chat-router-0.1", "namespace": namespace},
        "involvedObject": about,
        "type": "Warning",
        "reason": "FailedMount",
        "message": message,
        "firstTimestamp": time(20),
        "lastTimestamp": time(),
        "count": 5,
        "source": {"component": "kubelet", "host": "node"},
    }


def test_a_missing_secret_ends_as_stalled_and_is_named(kube: Kube) -> None:
    chat = Chat(kube)
    chat.apply(router={"tls": {"secretRef": {"name": "chat-tls"}}})
    chat.until_ready()
    kube.apply(pod(chat.children()["Deployment/chat-router"]))
    uid = (kube.get("pod", "chat-router-0") or {})["metadata"]["uid"]
    message = 'MountVolume.SetUp failed for volume "tls" : secret "chat-tls" not found'
    kube.apply(mount_failed(uid, kube.namespace, message))
    waiting = {"name": "router", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    waiting |= {"state": {"waiting": {"reason": "ContainerCreating"}}}
    status = {"phase": "Pending", "startTime": time(20), "containerStatuses": [waiting]}
    patch = json.dumps({"status": status})
    kube.run("patch", "pod/chat-router-0", "--subresource=status", "--type=merge", "-p", patch)

    chat.until("SecretMissing", lambda: chat.condition("Stalled").get("reason") == "SecretMissing")
    assert "Secret chat-tls does not exist" in chat.condition("Stalled")["message"]
