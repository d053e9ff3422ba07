"""What an object says, apart from what the API server and controllers keep on it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

FIELD_MANAGER = "llmcache-operator"
_KEPT_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")


def fingerprint(obj: Json) -> str:
    """Return a hash of an object without status and without what changes on every write."""
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key in _KEPT_METADATA}
    content = {key: value for key, value in obj.items() if key not in ("status", "metadata")} | {"metadata": metadata}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def owns_replicas(live: Json) -> bool:
    """Whether the operator is the only one that set `spec.replicas` of a live object.

    Source: managedFields, as Kubernetes' documentation of server-side apply has it ("Transferring ownership").
    """
    managers = {
        entry.get("manager")
        for entry in live.get("metadata", {}).get("managedFields", [])
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    }
    return managers == {FIELD_MANAGER}


def ref_key(obj: Json) -> tuple[str, str, str]:
    """Return what names an object within its namespace."""
    return obj["apiVersion"], obj["kind"], obj["metadata"]["name"]
