"""The configuration files of a cluster's components. All but CoreDNS's and containerd's are JSON, which is YAML too."""

import json
from typing import Any

from e2e.cluster import containerd, pause
from e2e.cluster.layout import Cluster

DNS_DOMAIN = "cluster.local"


def write(cluster: Cluster) -> None:
    """Write all of them into the cluster's folder."""
    folder = cluster.config("")
    folder.mkdir(parents=True, exist_ok=True)
    cluster.config("containerd.toml").write_text(containerd.cluster_config(cluster))
    cluster.config("Corefile").write_text(corefile(cluster))
    for file, content in {
        "cni/10-ptp.conflist": cni(cluster),
        "audit-policy.json": audit_policy(),
        "kubelet.json": kubelet(cluster),
        "recycler.json": recycler_pod(),
    }.items():
        cluster.config(file).parent.mkdir(exist_ok=True)
        cluster.config(file).write_text(json.dumps(content, indent=2))


def audit_policy() -> dict[str, Any]:
    """Log who wrote what, not its content; reads, and questions in the form of a create, are left out.

    https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
    """
    questions = [{"group": "authentication.k8s.io"}, {"group": "authorization.k8s.io"}]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "verbs": ["get", "list", "watch"]},
            {"level": "None", "resources": questions},
            {"level": "Metadata", "omitManagedFields": True},
        ],
    }


def kubelet(cluster: Cluster) -> dict[str, Any]:
    """Configure the kubelet: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/ ."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(cluster.node_ip),
        "healthzBindAddress": str(cluster.node_ip),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(cluster.pki("ca.crt"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(cluster.pki("serving.crt")),
        "tlsPrivateKeyFile": str(cluster.pki("serving.key")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cluster.scope}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [str(cluster.node_ip)],
        "clusterDomain": DNS_DOMAIN,
        # The host's resolv.conf leads out of the cluster, where pods can't go.
        "resolvConf": "",
        "containerRuntimeEndpoint": f"unix://{cluster.containerd_socket}",
        "podLogsDir": str(cluster.folder / "pods"),
        "volumePluginDir": str(cluster.folder / "volume-plugins"),
        # Images come from the cache and cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # The disk and the memory are the host's, and shared with all else on it.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


def cni(cluster: Cluster) -> dict[str, Any]:
    """Lay a cable from each pod to the node, as on kind: traffic is routed, so no bridge has to call iptables."""
    allocator = {
        "type": "host-local",
        "dataDir": str(cluster.folder / "cni"),
        "ranges": [[{"subnet": str(cluster.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "1.0.0",
        "name": cluster.scope,
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": allocator},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def corefile(cluster: Cluster) -> str:
    """Resolve Services and pods; say of every other name that it does not exist, as pods can't reach it anyway."""
    return f"""\
{DNS_DOMAIN}:53 in-addr.arpa:53 {{
    bind {cluster.node_ip}
    errors
    ready {cluster.node_ip}:8181
    kubernetes {{
        kubeconfig {cluster.pki("coredns.kubeconfig")}
        pods insecure
        ttl 5
    }}
    cache 5
    loadbalance
}}
.:53 {{
    bind {cluster.node_ip}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def recycler_pod() -> dict[str, Any]:
    """Empty a volume when its claim is deleted, so that the next claim can have it.

    The controller manager replaces the volume's source: k8s.io/kubernetes/pkg/volume/hostpath/host_path.go.
    """
    empty = "find /scrub -mindepth 1 -maxdepth 1 -exec rm -rf {} +"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "pv-recycler-", "namespace": "kube-system"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "volumes": [{"name": "vol", "hostPath": {"path": "/replaced"}}],
            "containers": [
                {
                    "name": "pv-recycler",
                    "image": pause.reference(),
                    "command": ["/bin/sh", "-c", empty],
                    "securityContext": {"runAsUser": 0},
                    "volumeMounts": [{"name": "vol", "mountPath": "/scrub"}],
                }
            ],
        },
    }
