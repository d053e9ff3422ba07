"""The metrics of services: one set for each that lives, and none for what isn't known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from llmcache_operator.core.values import ServiceKey
from llmcache_operator.edge.service_metrics import ServiceStates
from tests.edge.scenario import KEY, World, service

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json
    from llmcache_operator.edge.metrics import Metrics

CHAT, OTHER = ServiceKey("team", "chat"), ServiceKey("team", "other")
READY = {"type": "Ready", "status": "True", "reason": "Available"}
STATUS: Json = {
    "conditions": [READY, {"type": "CacheEffective", "status": "Unknown", "reason": "Idle"}],
    "engines": {"desired": 2, "ready": 1},
    "cache": {
        "tiers": {"engine": 58, "server": 13},
        "tokensReused": 1234,
        "usedPercent": 40,
        "saved": {"engineSeconds": 9},
    },
}
LABELS = {"namespace": "team", "llmcs": "chat"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def states(registry: CollectorRegistry) -> ServiceStates:
    return ServiceStates(registry)


def samples(registry: CollectorRegistry) -> list[str]:
    return [sample.name for family in registry.collect() for sample in family.samples]


def test_a_status_becomes_gauges(registry: CollectorRegistry, states: ServiceStates) -> None:
    states.show(CHAT, STATUS)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"llmcache_service_{name}", LABELS | labels)

    assert (value("engines_desired"), value("engines_ready")) == (2, 1)
    assert (value("hit_ratio", tier="engine"), value("hit_ratio", tier="server")) == (0.58, 0.13)
    assert (value("reused_tokens"), value("saved_engine_seconds"), value("cache_used_ratio")) == (1234, 9, 0.4)
    assert [value("condition", type="Ready", status=status) for status in ("True", "False", "Unknown")] == [1, 0, 0]
    assert value("condition", type="CacheEffective", status="Unknown") == 1
    assert value("condition_reason", type="CacheEffective", reason="Idle") == 1


def test_what_is_not_known_has_no_sample(registry: CollectorRegistry, states: ServiceStates) -> None:
    states.show(CHAT, {"conditions": [READY], "cache": {"identity": "7c41", "window": "5m"}})

    assert set(samples(registry)) == {"llmcache_service_condition", "llmcache_service_condition_reason"}


def test_a_reason_that_is_over_has_no_sample(registry: CollectorRegistry, states: ServiceStates) -> None:
    states.show(CHAT, STATUS)
    states.show(CHAT, {"conditions": [READY | {"status": "False", "reason": "Unschedulable"}]})

    reasons = [s.labels["reason"] for f in registry.collect() for s in f.samples if "reason" in s.labels]
    assert reasons == ["Unschedulable"]


def test_a_service_that_is_gone_leaves_nothing(registry: CollectorRegistry, states: ServiceStates) -> None:
    states.show(CHAT, STATUS)
    one = samples(registry)
    states.show(OTHER, STATUS)
    assert len(samples(registry)) == 2 * len(one)

    states.forget(OTHER)

    assert samples(registry) == one


async def test_reconciles_tell_of_services_that_live_and_forget_those_that_went() -> None:
    world = World()
    metrics: Metrics = world.reconciler.metrics
    world.cluster.put(service())
    await world.settle()
    ready = {"namespace": KEY.namespace, "llmcs": KEY.name, "type": "Ready", "status": "True"}
    assert metrics.registry.get_sample_value("llmcache_service_condition", ready) == 1

    world.cluster.remove(world.cluster.find("LLMCacheService", KEY.name))
    await world.step()

    assert b'llmcs="chat"' not in metrics.render()
