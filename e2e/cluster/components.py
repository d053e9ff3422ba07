"""Every process of a cluster: its command line, and the URL that answers 200 when it works."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import containerd
from e2e.cluster.layout import Cluster


@dataclass(frozen=True)
class Component:
    """One process."""

    name: str
    argv: tuple[str, ...]
    health: str


def stages(cluster: Cluster, binaries: Mapping[str, Path]) -> tuple[tuple[Component, ...], ...]:
    """All components; those of a stage need those of the stages before it."""
    return (
        (_etcd(cluster, binaries["etcd"]), _containerd(cluster)),
        (_api_server(cluster, binaries["kube-apiserver"]),),
        (
            _controller_manager(cluster, binaries["kube-controller-manager"]),
            _scheduler(cluster, binaries["kube-scheduler"]),
            _kubelet(cluster, binaries["kubelet"]),
            _proxy(cluster, binaries["kube-proxy"]),
            _coredns(cluster, binaries["coredns"]),
        ),
    )


def _component(name: str, health: str, program: str | Path, flags: Mapping[str, object]) -> Component:
    return Component(name, (str(program), *(f"--{flag}={value}" for flag, value in flags.items())), health)


def _etcd(cluster: Cluster, program: Path) -> Component:
    clients, metrics = "http://127.0.0.1:2379", f"http://{cluster.node_ip}:2381"
    flags = {
        "data-dir": cluster.folder / "etcd",
        "listen-client-urls": clients,
        "advertise-client-urls": clients,
        "listen-metrics-urls": metrics,
        "log-level": "warn",
        # The data lives as long as the cluster: it need not survive a loss of power.
        "unsafe-no-fsync": "true",
    }
    return _component("etcd", f"{metrics}/readyz", program, flags)


def _containerd(cluster: Cluster) -> Component:
    health = f"http://{cluster.node_ip}:{containerd.METRICS_PORT}/v1/metrics"
    return _component("containerd", health, "containerd", {"config": cluster.config("containerd.toml")})


def _api_server(cluster: Cluster, program: Path) -> Component:
    flags = {
        "etcd-servers": "http://127.0.0.1:2379",
        "advertise-address": cluster.node_ip,
        "bind-address": "0.0.0.0",  # noqa: S104  # in the cluster's own namespace
        "secure-port": 6443,
        "service-cluster-ip-range": cluster.services,
        **_serving(cluster),
        "client-ca-file": cluster.pki("ca.crt"),
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": cluster.pki("service-account.pub"),
        "service-account-signing-key-file": cluster.pki("service-account.key"),
        "kubelet-client-certificate": cluster.pki("apiserver-kubelet.crt"),
        "kubelet-client-key": cluster.pki("apiserver-kubelet.key"),
        # Else `logs` and `exec` look up the node's name, which no DNS knows.
        "kubelet-preferred-address-types": "InternalIP",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "audit-policy-file": cluster.config("audit-policy.json"),
        "audit-log-path": cluster.audit_log,
    }
    return _component("kube-apiserver", f"{cluster.server}/readyz", program, flags)


def _controller_manager(cluster: Cluster, program: Path) -> Component:
    flags = {
        "kubeconfig": cluster.pki("kube-controller-manager.kubeconfig"),
        "bind-address": cluster.node_ip,
        **_serving(cluster),
        "root-ca-file": cluster.pki("ca.crt"),
        "service-account-private-key-file": cluster.pki("service-account.key"),
        "use-service-account-credentials": "true",
        "leader-elect": "false",
        "pv-recycler-pod-template-filepath-hostpath": cluster.config("recycler.json"),
    }
    return _component("kube-controller-manager", f"https://{cluster.node_ip}:10257/healthz", program, flags)


def _scheduler(cluster: Cluster, program: Path) -> Component:
    flags = {
        "kubeconfig": cluster.pki("kube-scheduler.kubeconfig"),
        "bind-address": cluster.node_ip,
        **_serving(cluster),
        "leader-elect": "false",
    }
    return _component("kube-scheduler", f"https://{cluster.node_ip}:10259/readyz", program, flags)


def _kubelet(cluster: Cluster, program: Path) -> Component:
    flags = {
        "config": cluster.config("kubelet.json"),
        "kubeconfig": cluster.pki("kubelet.kubeconfig"),
        "root-dir": cluster.folder / "kubelet",
        "cert-dir": cluster.folder / "kubelet" / "pki",
        "hostname-override": cluster.name,
        "node-ip": cluster.node_ip,
    }
    return _component("kubelet", f"http://{cluster.node_ip}:10248/healthz", program, flags)


def _proxy(cluster: Cluster, program: Path) -> Component:
    health = f"{cluster.node_ip}:10256"
    flags = {
        "kubeconfig": cluster.pki("kube-proxy.kubeconfig"),
        "proxy-mode": "iptables",
        "cluster-cidr": cluster.pods,
        "hostname-override": cluster.name,
        "healthz-bind-address": health,
        # Sysctls of the whole machine, which a namespace may not set.
        "conntrack-max-per-core": 0,
        "conntrack-tcp-timeout-established": 0,
        "conntrack-tcp-timeout-close-wait": 0,
    }
    return _component("kube-proxy", f"http://{health}/healthz", program, flags)


def _coredns(cluster: Cluster, program: Path) -> Component:
    argv = (str(program), "-conf", str(cluster.config("Corefile")))
    return Component("coredns", argv, f"http://{cluster.node_ip}:8181/ready")


def _serving(cluster: Cluster) -> dict[str, object]:
    return {"tls-cert-file": cluster.pki("serving.crt"), "tls-private-key-file": cluster.pki("serving.key")}
