"""The cluster's network namespace, and the one cable and two routes that join it to the host.

No iptables rule, sysctl or other route of the host changes. Taking it down is deleting the namespace and the cable.
"""

import json

from e2e.cluster.layout import Cluster
from e2e.cluster.shell import run


def up(cluster: Cluster) -> None:
    """Make what is missing; what is there stays as it is."""
    scope, link = cluster.scope, cluster.host_link
    if not cluster.netns.exists():
        run(["ip", "netns", "add", scope])
    if not _link_exists(link):
        run(["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", scope])
    prefix = cluster.node_network.prefixlen
    _ip(f"address replace {cluster.host_ip}/{prefix} dev {link}")
    _ip(f"link set {link} up")
    _ip(f"-n {scope} address replace {cluster.node_ip}/{prefix} dev eth0")
    _ip(f"-n {scope} link set eth0 up")
    _ip(f"-n {scope} link set lo up")
    # Also what lets a process on the node reach a Service: the kernel wants a route before it rewrites the address.
    _ip(f"-n {scope} route replace default via {cluster.host_ip}")
    for network in (cluster.pods, cluster.services):
        _ip(f"route replace {network} via {cluster.node_ip} dev {link}")
    run(["nsenter", f"--net={cluster.netns}", "--", "sysctl", "-qw", "net.ipv4.ip_forward=1"])


def down(cluster: Cluster) -> None:
    """Delete the cable, with it the host's routes, and the namespace."""
    if _link_exists(cluster.host_link):
        run(["ip", "link", "delete", cluster.host_link])
    if cluster.netns.exists():
        run(["ip", "netns", "delete", cluster.scope])


def _ip(arguments: str) -> None:
    run(["ip", *arguments.split()])


def _link_exists(name: str) -> bool:
    return any(link["ifname"] == name for link in json.loads(run(["ip", "-json", "link", "show"])))
