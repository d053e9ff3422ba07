"""The operator against a real API server: server-side apply, watches, garbage collection, permissions."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.apiserver.audit import wait_for_rest, writes
from tests.apiserver.service import CHILDREN, Chat

if TYPE_CHECKING:
    from e2e.kube import Json, Kube
    from tests.apiserver.operator_process import OperatorProcess
    from tests.apiserver.server import ApiServer

QUIET_SECONDS = 45.0
pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture
def chat(kube: Kube) -> Chat:
    """The namespace's service, not applied yet."""
    return Chat(kube)


def test_all_children_appear_and_the_status_tells_how_it_goes(chat: Chat) -> None:
    chat.apply()

    chat.wait_for_children()
    chat.until_ready()
    live = chat.live()
    assert live is not None
    assert live["status"]["engines"] | {"desired": 2, "ready": 2} == live["status"]["engines"]
    assert live["metadata"].keys().isdisjoint({"finalizers", "annotations"})


@pytest.mark.timeout(300)
def test_a_service_at_rest_is_not_written_to(chat: Chat, kube: Kube, api_server: ApiServer) -> None:
    chat.apply()
    chat.until_ready()
    wait_for_rest(api_server, kube.namespace)
    before = writes(api_server, kube.namespace)

    time.sleep(QUIET_SECONDS)

    assert writes(api_server, kube.namespace) == before


def test_nothing_but_the_status_of_the_resource_is_written(chat: Chat, kube: Kube, api_server: ApiServer) -> None:
    chat.apply()
    chat.until_ready()

    made = writes(api_server, kube.namespace)

    to_resource = {e["objectRef"].get("subresource") for e in made if e["objectRef"]["resource"] == "llmcacheservices"}
    assert to_resource == {"status"}
    assert {event["verb"] for event in made} == {"patch"}
    assert all(event["responseStatus"]["code"] < 300 for event in made)


@pytest.mark.parametrize("child", sorted(CHILDREN))
def test_a_child_deleted_by_hand_comes_back(chat: Chat, kube: Kube, child: str) -> None:
    chat.apply()
    uid = chat.wait_for_children()[child]["metadata"]["uid"]

    kube.run("delete", child, "--wait=false")

    chat.until("it is back", lambda: chat.children().get(child, {"metadata": {"uid": uid}})["metadata"]["uid"] != uid)


DRIFT: dict[str, tuple[str, str]] = {
    "replicas": ("Deployment/chat-engine", '{"spec": {"replicas": 7}}'),
    "selector": ("Service/chat-engine", '{"spec": {"selector": {"llmcache.dev/service": "other"}}}'),
    "rules": ("Role/chat-router", '{"rules": []}'),
    "ingress": ("NetworkPolicy/chat-cache", '{"spec": {"ingress": [{}]}}'),
    "owner": ("StatefulSet/chat-cache", '{"metadata": {"ownerReferences": []}}'),
    "label": (
        "PodDisruptionBudget/chat-engine",
        '{"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}',
    ),
}


@pytest.mark.parametrize("drift", DRIFT)
def test_what_was_edited_by_hand_is_put_right(chat: Chat, kube: Kube, drift: str) -> None:
    child, patch = DRIFT[drift]
    chat.apply()
    before = chat.wait_for_children()[child]

    kube.run("patch", child, "--type=merge", "-p", patch)

    def put_right() -> bool:
        after = chat.children().get(child)
        return after is not None and _content(after) == _content(before)

    chat.until("it is as before", put_right)


def _content(obj: Json) -> Json:
    kept = ("labels", "ownerReferences")
    return {
        **{key: value for key, value in obj.items() if key not in {"metadata", "status"}},
        **{key: obj["metadata"].get(key) for key in kept},
    }


def test_what_others_add_to_a_child_stays(chat: Chat, kube: Kube) -> None:
    chat.apply()
    chat.wait_for_children()

    kube.run("annotate", "Deployment/chat-engine", "mine=kept")
    chat.apply(engine={"replicas": 3})

    chat.until("3 engines", lambda: chat.children()["Deployment/chat-engine"]["spec"]["replicas"] == 3)
    assert chat.children()["Deployment/chat-engine"]["metadata"]["annotations"]["mine"] == "kept"


def test_a_field_taken_out_of_the_resource_loses_its_effect(chat: Chat) -> None:
    def selector() -> Json:
        found: Json = chat.children()["Deployment/chat-engine"]["spec"]["template"]["spec"].get("nodeSelector", {})
        return found

    chat.apply(engine={"replicas": 2, "template": {"spec": {"nodeSelector": {"gpu": "yes"}}}})
    chat.wait_for_children()
    assert selector() == {"gpu": "yes"}

    chat.apply()

    chat.until("no node selector", lambda: selector() == {})


def test_kubectl_scale_works_on_the_resource(chat: Chat, kube: Kube) -> None:
    chat.apply()
    chat.wait_for_children()

    kube.run("scale", "llmcs/chat", "--replicas=4")

    chat.until("4 engines", lambda: chat.children()["Deployment/chat-engine"]["spec"]["replicas"] == 4)


def test_engines_without_a_number_are_left_to_an_autoscaler(chat: Chat, kube: Kube, api_server: ApiServer) -> None:
    def replicas() -> int:
        return int(chat.children()["Deployment/chat-engine"]["spec"]["replicas"])

    chat.apply(engine={"replicas": 3})
    chat.wait_for_children()
    chat.apply(engine={})
    chat.until("the change is seen", lambda: (chat.live() or {})["status"]["observedGeneration"] == 2)
    assert replicas() == 3

    kube.run("scale", "Deployment/chat-engine", "--replicas=6")
    wait_for_rest(api_server, kube.namespace)

    assert replicas() == 6


def test_children_that_are_no_longer_wanted_go_and_others_stay(chat: Chat, kube: Kube) -> None:
    chat.apply()
    chat.wait_for_children()
    owner = chat.children()["Service/chat-engine"]["metadata"]["ownerReferences"][0]
    theirs = {"name": "theirs", "ownerReferences": [owner]}
    kube.apply({"apiVersion": "v1", "kind": "Service", "metadata": theirs, "spec": {"ports": [{"port": 80}]}})

    chat.apply(networkPolicy="Disabled")

    kept = {name for name in CHILDREN if not name.startswith("NetworkPolicy/")}
    chat.wait_for_children(frozenset({*kept, "Service/theirs"}))


def test_deleting_the_resource_deletes_everything(chat: Chat, kube: Kube) -> None:
    chat.apply()
    chat.wait_for_children()

    kube.run("delete", "llmcs", "chat")

    chat.until("nothing is left", lambda: not chat.children(), seconds=60)


def test_a_namespace_can_be_deleted_with_a_service_in_it(chat: Chat, kube: Kube) -> None:
    chat.apply()
    chat.wait_for_children()

    kube.run("delete", "namespace", kube.namespace, "--timeout=60s", seconds=65)


def test_a_paused_service_is_left_alone_until_it_goes_on(chat: Chat, kube: Kube) -> None:
    chat.apply()
    chat.wait_for_children()
    kube.run("annotate", "llmcs/chat", "llmcache.dev/paused=true")
    chat.until("Paused", lambda: chat.condition("Paused").get("status") == "True")

    kube.run("scale", "Deployment/chat-engine", "--replicas=5")
    kube.run("annotate", "llmcs/chat", "seen=later")
    chat.until("5 wanted in vain", lambda: chat.children()["Deployment/chat-engine"]["spec"]["replicas"] == 5)
    kube.run("annotate", "llmcs/chat", "llmcache.dev/paused-")

    chat.until("2 again", lambda: chat.children()["Deployment/chat-engine"]["spec"]["replicas"] == 2)
    chat.until("not paused", lambda: not chat.condition("Paused"))


@pytest.mark.timeout(120)
def test_a_taken_name_is_told_and_recovered_from(chat: Chat, kube: Kube) -> None:
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "chat-router"}}
    kube.apply({**theirs, "spec": {"ports": [{"port": 80}]}})
    chat.apply()
    chat.until("NameTaken", lambda: chat.condition("Stalled").get("reason") == "NameTaken")

    kube.run("delete", "service", "chat-router")

    chat.until("the name is ours", lambda: chat.children().keys() == CHILDREN, seconds=60)
    chat.until("no longer stalled", lambda: not chat.condition("Stalled"))


def test_transitions_become_events_of_the_resource(chat: Chat, kube: Kube) -> None:
    chat.apply()
    chat.until_ready()

    def reasons() -> set[str]:
        events = json.loads(kube.run("get", "events.events.k8s.io", "-o", "json"))["items"]
        ours = [event for event in events if event["regarding"]["kind"] == "LLMCacheService"]
        assert all(event["reportingController"] == "llmcache.dev/operator" for event in ours)
        return {event["reason"] for event in ours}

    chat.until("an event tells of it", lambda: "Available" in reasons())


def test_probes_and_metrics_answer(operator: OperatorProcess, chat: Chat) -> None:
    base = f"http://127.0.0.1:{operator.port}"
    chat.apply()
    chat.wait_for_children()

    assert httpx.get(f"{base}/healthz").status_code == 200
    assert httpx.get(f"{base}/readyz").status_code == 200
    metrics = httpx.get(f"{base}/metrics").text
    assert 'llmcache_operator_applies_total{kind="StatefulSet",result="changed"}' in metrics
    assert "llmcache_operator_leading 1.0" in metrics
