"""What a fresh cluster holds: the StorageClass `standard` with its volumes, and the role of CoreDNS."""

import json
from pathlib import Path
from typing import Any

from e2e.cluster.kubectl import kubectl
from e2e.cluster.layout import Cluster

STORAGE_CLASS = "standard"
VOLUMES = 20


def apply(cluster: Cluster) -> None:
    """Apply them, by server-side apply, so that doing it again changes nothing."""
    for number in range(VOLUMES):
        folder = _volume_folder(cluster, number)
        folder.mkdir(parents=True, exist_ok=True)
        # The kubelet does not change the owner of a hostPath, and containers run as any user.
        folder.chmod(0o777)
    objects = {"apiVersion": "v1", "kind": "List", "items": manifests(cluster)}
    command = ["apply", "--server-side", "--force-conflicts", "--field-manager=e2e-cluster", "-f", "-"]
    kubectl(cluster.kubeconfig, command, stdin=json.dumps(objects), seconds=60)


def manifests(cluster: Cluster) -> list[dict[str, Any]]:
    """All objects, in the order in which they are applied."""
    volumes = [volume(number, _volume_folder(cluster, number)) for number in range(VOLUMES)]
    return [storage_class(), *volumes, *_coredns_role()]


def storage_class() -> dict[str, Any]:
    """Describe the default class, named as on kind: nothing is provisioned, the volumes are there."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
    }


def volume(number: int, folder: Path) -> dict[str, Any]:
    """Describe a folder of the node, emptied and offered again once its claim is deleted."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{STORAGE_CLASS}-{number:02}"},
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Recycle",
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }


def _volume_folder(cluster: Cluster, number: int) -> Path:
    return cluster.folder / "volumes" / f"{number:02}"


def _coredns_role() -> list[dict[str, Any]]:
    """Give CoreDNS the rules of https://github.com/coredns/deployment/blob/master/kubernetes/coredns.yaml.sed ."""
    name = "system:coredns"
    watch = ["list", "watch"]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": watch},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watch},
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    }
    return [role, binding]
