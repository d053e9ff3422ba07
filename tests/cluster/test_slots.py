from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path

import pytest

from e2e.cluster import slots
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import SLOTS, Cluster


def test_no_two_slots_share_an_address() -> None:
    networks = [n for slot in range(SLOTS) for n in Cluster("c", slot, Path("/c")).networks]

    assert not [pair for pair in combinations(networks, 2) if pair[0].overlaps(pair[1])]


def test_addresses_lie_in_their_networks() -> None:
    cluster = Cluster("c", 15, Path("/c"))

    assert cluster.node_ip in cluster.node_network
    assert cluster.host_ip in cluster.node_network
    assert cluster.api_service_ip in cluster.services
    assert cluster.server == f"https://{cluster.node_ip}:6443"


def test_a_new_cluster_gets_the_first_slot_whose_networks_are_free(home: Path) -> None:
    first = slots.first_free("new", [])
    taken = [first.services, Cluster("x", 1, home).pods, IPv4Network("192.168.0.0/16")]

    assert (first.slot, slots.first_free("new", taken).slot) == (0, 2)


@pytest.mark.usefixtures("home")
def test_when_every_slot_is_taken_the_error_says_what_to_do() -> None:
    with pytest.raises(ClusterError, match=r"no room for cluster new.*take one down"):
        slots.first_free("new", [IPv4Network("10.0.0.0/8")])


@pytest.mark.usefixtures("home")
def test_a_cluster_keeps_its_slot_until_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_routed", list)
    a, b = slots.claim("a"), slots.claim("b")

    assert (a.slot, b.slot) == (0, 1)
    assert slots.claim("b") == b
    assert slots.existing() == [a, b]

    slots.forget(a)

    assert slots.find("a") is None
    assert slots.claim("c").slot == 0


@pytest.mark.usefixtures("home")
def test_an_unknown_cluster_is_named_with_the_command_that_makes_it() -> None:
    with pytest.raises(ClusterError, match=r"no cluster gone: .* up --name gone"):
        slots.get("gone")


@pytest.mark.parametrize("name", ["", "Dev", "a-b", "1st", "elevenchars", "../x", "a/b"])
def test_names_that_the_kernel_or_the_file_system_could_not_hold_are_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="cluster name"):
        Cluster(name, 0, Path("/c"))


def test_interface_names_fit_the_kernel() -> None:
    assert len(Cluster("tencharact", 0, Path("/c")).host_link) <= 15


def test_a_folder_too_long_for_sockets_is_refused_with_the_way_out() -> None:
    with pytest.raises(ClusterError, match="XDG_STATE_HOME"):
        Cluster("c", 0, Path("/" + "x" * 90))
