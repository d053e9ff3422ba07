from __future__ import annotations

from typing import Any

import pytest

from llmcache_operator.core.rollout import Rollout, rollout


def workload(wanted: int | None = 2, generation: int = 5, **status: int) -> dict[str, Any]:
    spec = {} if wanted is None else {"replicas": wanted}
    return {"metadata": {"generation": generation}, "spec": spec, "status": {"observedGeneration": 5} | status}


def test_all_pods_of_the_latest_template_are_a_complete_rollout() -> None:
    found = rollout(workload(replicas=2, updatedReplicas=2, readyReplicas=2), None)

    assert found == Rollout(desired=2, ready=2, settled=True)
    assert found.complete


def test_a_workload_that_is_not_there_has_nothing_ready() -> None:
    assert rollout(None, 3) == Rollout(3, 0, settled=False)
    assert rollout(None, None) == Rollout(1, 0, settled=False)
    assert not rollout(None, 0).complete


@pytest.mark.parametrize(
    "status",
    [
        {"replicas": 2, "updatedReplicas": 1, "readyReplicas": 2},  # an old pod still serves
        {"replicas": 3, "updatedReplicas": 2, "readyReplicas": 3},  # an old pod is on its way out
        {},
    ],
)
def test_a_rollout_under_way_is_not_settled(status: dict[str, int]) -> None:
    assert not rollout(workload(**status), None).settled


def test_a_change_that_the_controller_has_not_seen_is_a_rollout_under_way() -> None:
    old = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}

    assert not rollout(workload(generation=6, **old), None).complete


def test_pods_that_are_not_ready_leave_a_settled_rollout_incomplete() -> None:
    found = rollout(workload(replicas=2, updatedReplicas=2, readyReplicas=1), None)

    assert found.settled
    assert not found.complete


def test_the_number_that_the_spec_gives_replaces_the_workloads_own() -> None:
    assert rollout(workload(replicas=2, updatedReplicas=2, readyReplicas=2), 3) == Rollout(3, 2, settled=False)


def test_without_a_number_kubernetes_makes_one_pod() -> None:
    assert rollout(workload(None, replicas=1, updatedReplicas=1, readyReplicas=1), None).complete


def test_scaled_to_zero_is_complete() -> None:
    assert rollout(workload(0, replicas=0), 0) == Rollout(0, 0, settled=True)
