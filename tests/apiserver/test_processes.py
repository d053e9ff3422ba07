"""Restarts, two processes, a lost Lease, an API server that goes away."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from e2e.kube import Kube, wait_until
from tests.apiserver.audit import wait_for_rest, writes
from tests.apiserver.operator_process import SYSTEM
from tests.apiserver.service import Chat

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.apiserver.operator_process import OperatorProcess
    from tests.apiserver.server import ApiServer

pytestmark = pytest.mark.timeout(180)
LEASE_LOST = 3


@pytest.fixture
def chat(kube: Kube) -> Chat:
    """The namespace's service, not applied yet."""
    return Chat(kube)


def _holder(api_server: ApiServer) -> str:
    lease = Kube(api_server.kubeconfig, SYSTEM).get("lease", "llmcache-operator") or {}
    return str(lease.get("spec", {}).get("holderIdentity") or "")


def test_a_resource_can_be_deleted_while_no_operator_runs(
    chat: Chat, kube: Kube, start_operator: Callable[..., OperatorProcess]
) -> None:
    operator = start_operator()
    chat.apply()
    chat.wait_for_children()
    assert operator.stop() == 0

    kube.run("delete", "llmcs", "chat", "--timeout=20s")

    chat.until("nothing is left", lambda: not chat.children(), seconds=60)


def test_a_process_that_is_told_to_stop_frees_the_lease(
    chat: Chat, start_operator: Callable[..., OperatorProcess], api_server: ApiServer
) -> None:
    first = start_operator()
    first.wait_until_leading()
    assert first.stop() == 0
    assert _holder(api_server) == ""

    chat.apply()
    start_operator().wait_for("leading as", seconds=10)

    chat.wait_for_children()


def test_a_new_process_writes_nothing_where_all_is_as_it_should_be(
    chat: Chat, kube: Kube, start_operator: Callable[..., OperatorProcess], api_server: ApiServer
) -> None:
    first = start_operator()
    chat.apply()
    chat.until_ready()
    wait_for_rest(api_server, kube.namespace)
    assert first.stop() == 0
    before = writes(api_server, kube.namespace)

    second = start_operator()
    done = 'llmcache_operator_reconciles_total{result="done"}'
    wait_until("it has reconciled", lambda: done in second.metrics(), seconds=30, every=0.2)
    wait_for_rest(api_server, kube.namespace)

    assert writes(api_server, kube.namespace) == before


def test_a_second_process_waits_and_takes_over_from_one_that_was_killed(
    chat: Chat, start_operator: Callable[..., OperatorProcess], api_server: ApiServer
) -> None:
    first, second = start_operator(), None
    first.wait_until_leading()
    second = start_operator()
    second.wait_for("waiting for the Lease")
    chat.apply()
    chat.wait_for_children()
    assert not second.said("leading as")

    first.kill()
    chat.apply(engine={"replicas": 5})

    second.wait_for("leading as", seconds=40)
    chat.until("5 engines", lambda: chat.children()["Deployment/chat-engine"]["spec"]["replicas"] == 5)


def test_a_process_that_lost_the_lease_ends(
    start_operator: Callable[..., OperatorProcess], api_server: ApiServer
) -> None:
    operator = start_operator()
    operator.wait_until_leading()
    system = Kube(api_server.kubeconfig, SYSTEM)

    spec = {"holderIdentity": "somebody else", "leaseDurationSeconds": 1}
    system.run("patch", "lease", "llmcache-operator", "--type=merge", "-p", json.dumps({"spec": spec}))

    assert operator.process.wait(30) == LEASE_LOST
    assert operator.said("was taken by somebody else")


def test_a_short_absence_of_the_api_server_is_survived(
    start_operator: Callable[..., OperatorProcess], chat: Chat, api_server: ApiServer
) -> None:
    operator = start_operator()
    chat.apply()
    chat.wait_for_children()

    api_server.restart_api_server()
    chat.apply(engine={"replicas": 5})

    chat.until("5 engines", lambda: chat.children()["Deployment/chat-engine"]["spec"]["replicas"] == 5, seconds=60)
    assert not operator.ended


def test_the_crd_may_come_after_the_operator(
    start_operator: Callable[..., OperatorProcess], chat: Chat, api_server: ApiServer
) -> None:
    cluster = Kube(api_server.kubeconfig)
    crd = json.loads(cluster.run("get", "crd", "llmcacheservices.llmcache.dev", "-o", "json"))
    cluster.run("delete", "crd", "llmcacheservices.llmcache.dev")
    try:
        start_operator().wait_for("apply the manifests in crds/")
    finally:
        manifest = {**crd, "metadata": {"name": crd["metadata"]["name"]}, "status": None}
        cluster.apply({key: value for key, value in manifest.items() if value is not None})
    cluster.run("wait", "--for=condition=Established", "crd/llmcacheservices.llmcache.dev", "--timeout=20s")

    chat.apply()

    chat.wait_for_children()


def test_a_frozen_process_ends_when_it_wakes_up_after_another_took_over(
    chat: Chat, start_operator: Callable[..., OperatorProcess]
) -> None:
    first = start_operator()
    first.wait_until_leading()
    first.process.send_signal(signal.SIGSTOP)
    try:
        second = start_operator()
        second.wait_for("leading as", seconds=40)
        chat.apply()
        chat.wait_for_children()
    finally:
        first.process.send_signal(signal.SIGCONT)

    assert first.process.wait(30) == LEASE_LOST
    chat.wait_for_children()


def test_a_namespaced_operator_serves_its_namespaces_only(
    chat: Chat, kube: Kube, start_operator: Callable[..., OperatorProcess], api_server: ApiServer
) -> None:
    other = Chat(Kube(api_server.kubeconfig, "default"))
    start_operator("--namespace", kube.namespace).wait_until_leading()
    other.apply()
    try:
        chat.apply()
        chat.wait_for_children()

        assert other.children() == {}
        assert not (other.live() or {})["status"].get("conditions")
    finally:
        other.kube.run("delete", "llmcs", "chat")


def test_a_missing_permission_is_named_and_mending_it_is_enough(
    chat: Chat, start_operator: Callable[..., OperatorProcess], api_server: ApiServer
) -> None:
    cluster = Kube(api_server.kubeconfig)
    role = json.loads(cluster.run("get", "clusterrole", "llmcache-operator", "-o", "json"))
    rules = [rule for rule in role["rules"] if "statefulsets" not in rule["resources"]]
    cluster.run("patch", "clusterrole", "llmcache-operator", "--type=merge", "-p", json.dumps({"rules": rules}))
    try:
        operator = start_operator()
        operator.wait_for('cannot list resource "deployments"')
    finally:
        mended = json.dumps({"rules": role["rules"]})
        cluster.run("patch", "clusterrole", "llmcache-operator", "--type=merge", "-p", mended)

    chat.apply()

    chat.wait_for_children()
