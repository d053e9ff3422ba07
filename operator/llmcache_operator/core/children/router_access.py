"""What a router may read: the EndpointSlices of its namespace, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

RBAC_GROUP = "rbac.authorization.k8s.io"


def build(target: Target) -> tuple[Json, ...]:
    """Return the ServiceAccount, the Role and the RoleBinding."""
    name = target.name(Component.ROUTER)
    account: Json = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": target.metadata(Component.ROUTER),
        "automountServiceAccountToken": False,
    }
    role: Json = {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "Role",
        "metadata": target.metadata(Component.ROUTER),
        "rules": [
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
        ],
    }
    binding: Json = {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": target.metadata(Component.ROUTER),
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": target.key.namespace}],
    }
    return (account, role, binding)
