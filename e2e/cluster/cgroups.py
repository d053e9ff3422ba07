"""The control group that holds all pods of a cluster, in cgroup v1 (one tree per controller) and v2 (one tree)."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import Cluster
from e2e.cluster.mounts import mounted
from e2e.cluster.process import wait_until

# What the kubelet insists on: k8s.io/kubernetes/pkg/kubelet/cm/cgroup_manager_linux.go.
_NEEDED = frozenset({"cpu", "cpuset", "memory", "pids"})


def hierarchies() -> list[Path]:
    """Return the roots of all trees: one on v2, one per controller on v1, both kinds on a hybrid host."""
    return [mount.path for mount in mounted() if mount.kind in {"cgroup", "cgroup2"}]


def create(cluster: Cluster, roots: list[Path]) -> None:
    """Make the cluster's group in every tree: the kubelet takes a cgroupRoot only if it exists in all of them."""
    if len(roots) == 1:
        _delegate(roots[0])
    for root in roots:
        group = root / cluster.scope
        group.mkdir(exist_ok=True)
        # v1: a new cpuset is empty, and no process can enter an empty one.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (root / file).exists() and not (group / file).read_text().strip():
                (group / file).write_text((root / file).read_text())


def _delegate(root: Path) -> None:
    """Hand the controllers of v2's only tree down to the children of its root."""
    available = set((root / "cgroup.controllers").read_text().split())
    if lacking := _NEEDED - available:
        raise ClusterError(f"{root}/cgroup.controllers lacks {', '.join(sorted(lacking))}; the kubelet needs them")
    wanted = " ".join(f"+{controller}" for controller in sorted(available))
    try:
        (root / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        raise ClusterError(
            f"cannot write '{wanted}' to {root}/cgroup.subtree_control ({error.strerror}): "
            "in a container, move its processes into a child group first"
        ) from error


def kill(cluster: Cluster, roots: list[Path]) -> None:
    """SIGKILL every process of every pod, and those that they start meanwhile."""

    def empty() -> bool:
        processes = {pid for root in roots for pid in _processes(root / cluster.scope)}
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not processes

    if not wait_until(empty, seconds=30):
        raise ClusterError(f"processes in the control group {cluster.scope} survive SIGKILL")


def remove(cluster: Cluster, roots: list[Path]) -> None:
    """Delete the group with all its children."""
    for root in roots:
        for group in _groups(root / cluster.scope):
            _remove(group)


def _processes(group: Path) -> list[int]:
    return [
        int(line)
        for child in _groups(group)
        if (child / "cgroup.procs").exists()
        for line in (child / "cgroup.procs").read_text().split()
    ]


def _groups(group: Path) -> list[Path]:
    """Return the group and all below it, the deepest first."""
    return [Path(folder) for folder, _, _ in os.walk(group, topdown=False)]


def _remove(group: Path) -> None:
    def removed() -> bool:
        # Busy for a moment after its last process is gone.
        with suppress(OSError):
            group.rmdir()
        return not group.exists()

    if not wait_until(removed, seconds=10):
        raise ClusterError(f"the control group {group} cannot be removed: something runs in it")
