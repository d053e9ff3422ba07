"""Remembers which clusters exist and gives a new one the first slot whose addresses are free."""

import json
import shutil
from collections.abc import Iterable
from ipaddress import IPv4Network

from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import SLOTS, Cluster, state_folder
from e2e.cluster.shell import run


def find(name: str) -> Cluster | None:
    """Return the cluster of that name, running or not; None if there is none."""
    folder = state_folder() / name
    record = folder / "cluster.json"
    if not record.exists():
        return None
    return Cluster(name, json.loads(record.read_text())["slot"], folder)


def get(name: str) -> Cluster:
    """Return the cluster of that name; raises ClusterError if there is none."""
    cluster = find(name)
    if cluster is None:
        raise ClusterError(f"there is no cluster {name}: `python -m e2e.cluster up --name {name}` makes it")
    return cluster


def existing() -> list[Cluster]:
    """Return all clusters of this user."""
    found = (find(record.parent.name) for record in sorted(state_folder().glob("*/cluster.json")))
    return [cluster for cluster in found if cluster is not None]


def claim(name: str) -> Cluster:
    """Return the cluster of that name, or record a new one in the first free slot.

    The caller holds the lock of the state folder. Raises ClusterError if no slot is free.
    """
    known = find(name)
    if known is not None:
        return known
    taken = [*(network for other in existing() for network in other.networks), *_routed()]
    cluster = first_free(name, taken)
    cluster.folder.mkdir(parents=True, exist_ok=True)
    (cluster.folder / "cluster.json").write_text(json.dumps({"slot": cluster.slot}))
    return cluster


def first_free(name: str, taken: Iterable[IPv4Network]) -> Cluster:
    """Return the cluster in the lowest slot none of whose networks overlaps one that is taken."""
    taken = list(taken)
    for slot in range(SLOTS):
        cluster = Cluster(name, slot, state_folder() / name)
        if not any(mine.overlaps(theirs) for mine in cluster.networks for theirs in taken):
            return cluster
    raise ClusterError(
        f"no room for cluster {name}: all {SLOTS} slots overlap other clusters or the host's routes. "
        "`python -m e2e.cluster status` lists the clusters; take one down"
    )


def forget(cluster: Cluster) -> None:
    """Delete the cluster's folder, and with it its slot."""
    shutil.rmtree(cluster.folder)


def _routed() -> list[IPv4Network]:
    routes = json.loads(run(["ip", "-json", "-4", "route", "show"]))
    return [IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"]
