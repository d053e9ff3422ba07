"""What tells a gateway of the Gateway API Inference Extension of the engines and of the router that picks among them.

Source: https://gateway-api-inference-extension.sigs.k8s.io/reference/spec
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.children import engine
from llmcache_operator.core.children.front_end import GRPC_PORT, is_picker
from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

INFERENCE_POOL = ("inference.networking.k8s.io/v1", "InferencePool")


def build(target: Target) -> tuple[Json, ...]:
    """Return the InferencePool, or none where the router is no picker or the cluster has no such kind.

    It fails open: while no router answers, engines do, and a gateway's own balancing costs hits, not requests.
    """
    if not is_picker(target) or INFERENCE_POOL not in target.settings.optional_kinds:
        return ()
    pool: Json = {
        "apiVersion": INFERENCE_POOL[0],
        "kind": INFERENCE_POOL[1],
        "metadata": target.metadata(Component.ENGINE),
        "spec": {
            "selector": {"matchLabels": target.selector(Component.ENGINE)},
            "targetPorts": [{"number": engine.HTTP_PORT}],
            "endpointPickerRef": {
                "name": target.name(Component.ROUTER),
                "port": {"number": GRPC_PORT},
                "failureMode": "FailOpen",
            },
        },
    }
    return (pool,)


def whereabouts(target: Target) -> str | None:
    """Say how a gateway finds the engines; None where clients talk to the router itself."""
    if not is_picker(target):
        return None
    if INFERENCE_POOL in target.settings.optional_kinds:
        return f"Gateways route to InferencePool {target.name(Component.ENGINE)}"
    router = f"{target.name(Component.ROUTER)}.{target.key.namespace}.svc:{GRPC_PORT}"
    return (
        f"The cluster has no kind InferencePool ({INFERENCE_POOL[0]}), so none is made: "
        f"point the ext_proc filter of an Envoy at {router}"
    )
