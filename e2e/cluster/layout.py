"""Where a cluster lives: its addresses, its names in the kernel and its folders."""

import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from e2e.cluster.errors import ClusterError

SLOTS = 16
_NODES = IPv4Network("10.88.0.0/16")
_PODS = IPv4Network("10.89.0.0/16")
_SERVICES = IPv4Network("10.90.0.0/16")
# Short, so that `llmc-NAME` fits into the 15 characters of an interface's name (IFNAMSIZ).
_NAME = re.compile(r"[a-z][a-z0-9]{0,9}")


def cache_folder() -> Path:
    """Return the user's cache: everything in it is keyed by version or content and can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmcache"


def state_folder() -> Path:
    """Return the folder that holds one folder for each cluster."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "llmcache" / "clusters"


@dataclass(frozen=True)
class Cluster:
    """One cluster. All else follows from its name, its slot (0..15) and the folder of its state."""

    name: str
    slot: int
    folder: Path

    def __post_init__(self) -> None:
        """Refuse names and slots that the kernel could not hold."""
        if not _NAME.fullmatch(self.name):
            raise ClusterError(f"cluster name {self.name!r}: use 1 to 10 lower-case letters and digits, a letter first")
        if not 0 <= self.slot < SLOTS:
            raise ClusterError(f"cluster {self.name}: slot {self.slot} is not in 0..{SLOTS - 1}")
        # sun_path has 108 bytes; the kubelet adds the longest ending.
        if len(str(self.folder / "kubelet/pod-resources/kubelet.sock")) > 100:
            raise ClusterError(f"{self.folder} is too long for sockets: set XDG_STATE_HOME to a shorter path")

    @property
    def node_network(self) -> IPv4Network:
        """The /24 between the host and the node."""
        return list(_NODES.subnets(new_prefix=24))[self.slot]

    @property
    def node_ip(self) -> IPv4Address:
        """The node's address; the API server and DNS listen on it."""
        return self.node_network[1]

    @property
    def host_ip(self) -> IPv4Address:
        """The host's address in the node's network: pods reach the host there."""
        return self.node_network[254]

    @property
    def pods(self) -> IPv4Network:
        """The /20 of the pods."""
        return list(_PODS.subnets(new_prefix=20))[self.slot]

    @property
    def services(self) -> IPv4Network:
        """The /20 of the Services."""
        return list(_SERVICES.subnets(new_prefix=20))[self.slot]

    @property
    def api_service_ip(self) -> IPv4Address:
        """The address of the Service `kubernetes.default`: the API server takes the first."""
        return self.services[1]

    @property
    def networks(self) -> tuple[IPv4Network, IPv4Network, IPv4Network]:
        """Everything that must be free on the host."""
        return self.node_network, self.pods, self.services

    @property
    def server(self) -> str:
        """The API server's URL, reachable from the host and from pods."""
        return f"https://{self.node_ip}:6443"

    @property
    def scope(self) -> str:
        """The name of its network namespace, cgroup and kubeconfig context."""
        return f"llmcache-{self.name}"

    @property
    def netns(self) -> Path:
        """The file that `nsenter --net=` takes."""
        return Path("/run/netns") / self.scope

    @property
    def host_link(self) -> str:
        """The host's end of the veth pair."""
        return f"llmc-{self.name}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON event a line: every write that the API server was asked for."""
        return self.folder / "log" / "audit.jsonl"

    @property
    def containerd_socket(self) -> Path:
        """Where the kubelet and `ctr` find containerd."""
        return self.folder / "containerd.sock"

    def log(self, component: str) -> Path:
        """Return the file of what a component wrote to stdout and stderr."""
        return self.folder / "log" / f"{component}.log"

    def pidfile(self, component: str) -> Path:
        """Which process a component is."""
        return self.folder / "pid" / f"{component}.json"

    def config(self, file: str) -> Path:
        """Return the path of a configuration file that `configs` writes."""
        return self.folder / "etc" / file

    def pki(self, file: str) -> Path:
        """Return the path of a key or certificate that `pki` writes."""
        return self.folder / "pki" / file
