"""Brings a cluster up, takes it down, and says how it is."""

from dataclasses import dataclass

from e2e.cluster import (
    build,
    cgroups,
    configs,
    health,
    images,
    leftovers,
    manifests,
    mounts,
    network,
    packages,
    pki,
    process,
    slots,
)
from e2e.cluster.components import Component, stages
from e2e.cluster.console import step
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import kubectl
from e2e.cluster.layout import Cluster, state_folder
from e2e.cluster.locks import exclusive


@dataclass(frozen=True)
class State:
    """One component as it is now."""

    component: str
    pid: int | None
    """None if it does not run."""
    healthy: bool


def up(name: str) -> Cluster:
    """Make the cluster, or mend what is missing of it; return when its node is Ready and DNS answers.

    Raises ClusterError that says which component failed, and where its log is.
    """
    packages.require_root()
    packages.ensure(packages.CLUSTER)
    binaries = build.ensure()
    images.ensure_pause()
    with exclusive(state_folder() / ".lock", "starting or stopping a cluster"):
        cluster = slots.claim(name)
        with step(f"network, certificates and images of {name}"):
            network.up(cluster)
            cgroups.create(cluster, cgroups.hierarchies())
            pki.ensure(cluster)
            configs.write(cluster)
            images.clone(cluster)
        stores, api, node = stages(cluster, binaries)
        _start(cluster, stores)
        _start(cluster, api)
        with step("volumes and roles"):
            manifests.apply(cluster)
        _start(cluster, node)
        with step("a Ready node"):
            _wait_for_node(cluster)
    return cluster


def down(name: str) -> bool:
    """Take the cluster down and delete all that it left; return whether there was one."""
    packages.require_root()
    with exclusive(state_folder() / ".lock", "starting or stopping a cluster"):
        cluster = slots.find(name)
        if cluster is None:
            return False
        with step(f"taking {name} down"):
            _kill(cluster)
            leftovers.remove(cluster)
            mounts.unmount_below(cluster.folder)
            network.down(cluster)
            cgroups.remove(cluster, cgroups.hierarchies())
            slots.forget(cluster)
    return True


def status(cluster: Cluster) -> list[State]:
    """Every component of the cluster, whether its process runs and whether it works."""
    return [_state(cluster, component) for stage in stages(cluster, build.paths()) for component in stage]


def _state(cluster: Cluster, component: Component) -> State:
    running = process.read(cluster.pidfile(component.name))
    if running is None:
        return State(component.name, None, healthy=False)
    return State(component.name, running.identity.pid, health.healthy(cluster, component))


def _start(cluster: Cluster, stage: tuple[Component, ...]) -> None:
    with step(", ".join(component.name for component in stage)):
        for component in stage:
            _start_component(cluster, component)
        health.wait(cluster, stage)


def _start_component(cluster: Cluster, component: Component) -> None:
    pidfile = cluster.pidfile(component.name)
    running = process.read(pidfile)
    if running is not None and running.argv == component.argv:
        return
    if running is not None:
        process.stop(running, grace=10)
    process.start(
        component.argv,
        netns=cluster.netns,
        folder=cluster.folder,
        log=cluster.log(component.name),
        pidfile=pidfile,
    )


def _kill(cluster: Cluster) -> None:
    """All at once and without grace: nothing of the cluster is kept.

    First what could start new containers, then the containers, then the rest. The API server goes before etcd:
    one that has lost its etcd hangs when asked to end.
    """
    for name in ("kubelet", "containerd"):
        if running := process.read(cluster.pidfile(name)):
            process.stop(running, grace=0)
    cgroups.kill(cluster, cgroups.hierarchies())
    process.kill_marked(cluster.folder)


def _wait_for_node(cluster: Cluster) -> None:
    """Wait until pods can be made: they need the node, and an account that the controller manager makes."""
    jsonpath = '{.status.conditions[?(@.type=="Ready")].status}'
    ready = ["get", "node", cluster.name, "--ignore-not-found", f"--output=jsonpath={jsonpath}"]
    account = ["get", "serviceaccount", "default", "--ignore-not-found", "--output=name"]

    def usable() -> bool:
        return kubectl(cluster.kubeconfig, ready) == "True" and kubectl(cluster.kubeconfig, account) != ""

    if not process.wait_until(usable, seconds=60):
        raise ClusterError(
            f"node {cluster.name} is not Ready, or has no service account: see "
            f"{cluster.log('kubelet')} and {cluster.log('kube-controller-manager')}"
        )
