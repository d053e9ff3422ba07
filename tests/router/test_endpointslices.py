"""From EndpointSlices to endpoints."""

from typing import Any

import pytest

from llmcache_runtime.router.endpointslices import endpoints


def pod(name: str, address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions, "targetRef": {"name": name, "uid": f"uid-{name}"}}


def slice_of(*pods: dict[str, Any], name: str = "s", kind: str = "IPv4", port: int = 8000) -> dict[str, Any]:
    ports = [{"name": "other", "port": 1}, {"name": "http", "port": port}]
    return {"metadata": {"name": name}, "addressType": kind, "ports": ports, "endpoints": list(pods)}


def test_a_ready_pod_is_named_by_its_uid_at_the_http_port() -> None:
    (one,) = endpoints([slice_of(pod("a", "10.0.0.1", ready=True, serving=True))])

    assert (one.id, one.name, one.host, one.port) == ("uid-a", "a", "10.0.0.1", 8000)
    assert (one.serving, one.draining) == (True, False)


@pytest.mark.parametrize(
    ("conditions", "serving", "draining"),
    [
        ({}, True, False),
        ({"ready": True}, True, False),
        ({"ready": False}, False, False),
        ({"ready": False, "serving": False, "terminating": False}, False, False),
        ({"ready": False, "serving": True, "terminating": True}, True, True),
        ({"ready": False, "serving": False, "terminating": True}, False, True),
        ({"ready": True, "serving": False}, False, False),  # a Service that publishes pods that are not ready
    ],
)
def test_conditions_decide_on_new_requests(conditions: dict[str, bool], *, serving: bool, draining: bool) -> None:
    (one,) = endpoints([slice_of(pod("a", "10.0.0.1", **conditions))])

    assert (one.serving, one.draining) == (serving, draining)


def test_a_pod_in_two_slices_counts_once_and_as_serving_if_either_says_so() -> None:
    found = endpoints(
        [
            slice_of(pod("a", "fd00::1", ready=True), name="six", kind="IPv6"),
            slice_of(pod("a", "10.0.0.1", ready=False), name="old"),
            slice_of(pod("a", "10.0.0.1", ready=True), name="young"),
        ]
    )

    assert [(one.id, one.host, one.serving) for one in found] == [("uid-a", "10.0.0.1", True)]


def test_slices_without_ports_endpoints_or_addresses_of_pods_are_passed_over() -> None:
    no_ports = slice_of(pod("a", "10.0.0.1")) | {"ports": None}
    no_endpoints = slice_of() | {"endpoints": None}
    names = slice_of(pod("a", "example.org"), kind="FQDN")

    assert endpoints([no_ports, no_endpoints, names]) == []


def test_an_endpoint_without_a_pod_is_named_by_its_address() -> None:
    (one,) = endpoints([slice_of({"addresses": ["10.0.0.9"]})])

    assert one.id == one.name == "10.0.0.9:8000"
