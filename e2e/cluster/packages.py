"""The programs that a cluster takes from the system."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster.console import step
from e2e.cluster.errors import ClusterError
from e2e.cluster.shell import run

BUSYBOX = Path("/bin/busybox")
CNI_PLUGINS = Path("/usr/lib/cni")

# Debian package -> a file or a program on PATH that shows it is installed.
CLUSTER: Mapping[str, str] = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": str(CNI_PLUGINS / "ptp"),
    "iproute2": "ip",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "socat": "socat",
    "util-linux": "nsenter",
    "busybox-static": str(BUSYBOX),
}


def missing(packages: Mapping[str, str]) -> list[str]:
    """Return the packages whose file or program is not there."""
    return [package for package, proof in packages.items() if shutil.which(proof) is None]


def ensure(packages: Mapping[str, str]) -> None:
    """Install what is missing with apt; where that is not possible raise ClusterError with the names."""
    absent = missing(packages)
    if not absent:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(f"install these packages first: {' '.join(absent)} (names as in Debian)")
    with step(f"installing {' '.join(absent)}"):
        _apt(["update"])
        _apt(["install", "--yes", "--no-install-recommends", *absent])


def require_root() -> None:
    """Network namespaces, mounts and cgroups need it."""
    if os.geteuid() != 0:
        raise ClusterError("a local cluster makes network namespaces, mounts and cgroups: run this as root")


def _apt(args: list[str]) -> None:
    run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", *args], seconds=900)
