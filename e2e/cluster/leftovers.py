"""Files that containerd, CNI and the kubelet write outside the cluster's folder, whatever they are told."""

from pathlib import Path

from e2e.cluster.layout import Cluster

_POD_LOGS = Path("/var/log/containers")
_CNI_RESULTS = Path("/var/lib/cni/results")


def remove(cluster: Cluster) -> None:
    """Delete those of this cluster. Its processes must be gone, its mounts must not."""
    _remove_log_links(cluster)
    _remove_cni_results(cluster)
    _remove_shim_sockets(cluster)


def _remove_log_links(cluster: Cluster) -> None:
    """Undo what the kubelet does for each container: k8s.io/kubernetes/pkg/kubelet/kuberuntime/legacy.go."""
    for link in _POD_LOGS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(cluster.folder):
            link.unlink()


def _remove_cni_results(cluster: Cluster) -> None:
    """Delete what CNI's library keeps of each ADD, as NETWORK-POD-INTERFACE; names of clusters hold no hyphen."""
    for result in _CNI_RESULTS.glob(f"{cluster.scope}-*"):
        pod = result.name.removeprefix(f"{cluster.scope}-").removesuffix("-eth0")
        (_CNI_RESULTS / f"cni-loopback-{pod}-lo").unlink(missing_ok=True)
        result.unlink()


def _remove_shim_sockets(cluster: Cluster) -> None:
    """Delete the socket in /run/containerd/s of each shim, which its bundle's file `address` names."""
    tasks = cluster.folder / "containerd/state/io.containerd.runtime.v2.task"
    for address in tasks.glob("*/*/address"):
        Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)
