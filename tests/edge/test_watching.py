"""How objects find their service, and that kopf is kept from writing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

import llmcache_operator.edge
from llmcache_operator.core.values import Json, ServiceKey
from llmcache_operator.edge.watching import (
    MANAGED,
    OPTIONAL,
    SERVICE,
    Watches,
    keys_of,
    owner_of,
    watch_settings,
    watched,
)
from llmcache_operator.edge.workqueue import WorkQueue

EDGE = Path(llmcache_operator.edge.__file__).parent


def child(*, owner: Json | None = None, label: str | None = None) -> Json:
    meta: Json = {"name": "chat-engine", "namespace": "ns", "uid": "uid-child", "resourceVersion": "7"}
    if owner:
        meta["ownerReferences"] = [owner]
    if label:
        meta["labels"] = {"llmcache.dev/service": label}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta}


OWNER = {
    "apiVersion": "llmcache.dev/v1alpha1",
    "kind": "LLMCacheService",
    "name": "chat",
    "uid": "uid-chat",
    "controller": True,
}


def test_a_service_is_its_own_key() -> None:
    resource = {"apiVersion": SERVICE[0], "kind": SERVICE[1], "metadata": {"name": "chat", "namespace": "ns"}}

    assert set(keys_of(resource)) == {ServiceKey("ns", "chat")}


def test_a_child_leads_to_its_owner_also_after_the_label_or_the_owner_was_torn_off() -> None:
    assert set(keys_of(child(owner=OWNER, label="chat"))) == {ServiceKey("ns", "chat")}
    assert set(keys_of(child(owner=OWNER))) == {ServiceKey("ns", "chat")}
    assert set(keys_of(child(label="chat"))) == {ServiceKey("ns", "chat")}
    assert set(keys_of(child())) == set()


@pytest.mark.parametrize(
    "other",
    [{"controller": False}, {"kind": "Deployment", "apiVersion": "apps/v1"}, {"apiVersion": "other.dev/v1"}],
    ids=["not the controller", "another kind", "another group"],
)
def test_only_a_controlling_llmcacheservice_is_the_owner(other: Json) -> None:
    assert owner_of(child(owner=OWNER)) == OWNER
    assert owner_of(child(owner=OWNER | other)) is None


def test_a_later_version_of_the_group_is_still_the_owner() -> None:
    assert owner_of(child(owner=OWNER | {"apiVersion": "llmcache.dev/v1"})) is not None


async def test_events_enqueue_and_indexes_hold_what_was_shown() -> None:
    queue = WorkQueue()
    watches = Watches(queue, watched())

    await watches._enqueue(body=child(owner=OWNER))

    assert watches.synced.is_set()
    assert len(queue) == 1


async def test_the_indexes_are_read_by_service_owner_and_kind() -> None:
    watches = Watches(WorkQueue(), watched())
    key = ServiceKey("ns", "chat")
    resource = {"apiVersion": SERVICE[0], "kind": SERVICE[1], "metadata": {"uid": "uid-chat", "resourceVersion": "3"}}
    await watches._adopt(services={key: [resource]}, children={"uid-chat": [child(owner=OWNER)]}, pods={})

    assert watches.keys() == [key]
    assert watches.service(key) == resource
    assert watches.service(ServiceKey("ns", "other")) is None
    assert watches.children("uid-chat") == (child(owner=OWNER),)
    assert watches.pods(key) == ()
    assert watches.versions(("apps/v1", "Deployment")) == {"uid-child": "7"}
    assert watches.versions(("v1", "Service")) == {}
    assert watches.versions(SERVICE) == {"uid-chat": "3"}


def test_kopf_neither_writes_nor_waits_for_ever() -> None:
    settings = watch_settings(watched())

    assert settings.peering.standalone
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.watching.client_timeout is not None
    assert settings.networking.request_timeout == 30


def test_everything_but_the_service_is_watched_by_label_only() -> None:
    kinds = watched(OPTIONAL)
    selectors = watch_settings(kinds).watching.label_selectors

    assert len(selectors) == len(kinds) - 1
    assert set(selectors.values()) == {MANAGED}


def test_no_handler_is_used_that_makes_kopf_write_to_the_resource() -> None:
    """Timers, daemons and the changing handlers put annotations and finalizers on the user's object."""
    sources = "\n".join(path.read_text() for path in EDGE.glob("*.py"))

    used = set(re.findall(r"kopf\.on\.(\w+)|kopf\.(timer|daemon|index)\b", sources))
    assert {first or second for first, second in used} == {"login", "startup", "event", "index"}


def test_watches_are_made_outside_of_a_running_loop_too() -> None:
    assert isinstance(Watches(WorkQueue(), watched()).synced, asyncio.Event)
