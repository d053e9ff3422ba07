"""What all pods have in common: security, environment, and the user's partial template laid over the operator's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.quantity import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmcache_operator.api.pods import EnvVar, PodTemplate, Resources, TemplateSpec
    from llmcache_operator.core.target import Component, Target
    from llmcache_operator.core.values import Json

USER = 65532
TERMINATION_GRACE_SECONDS = 120
# Endpoints need a moment to leave every router and kube-proxy before a pod may stop listening.
DRAIN_SECONDS = 10
# Of the time between SIGTERM and SIGKILL, what a program needs for itself once its streams have ended.
KILL_MARGIN_SECONDS = 10


def drain_seconds(overlay: PodTemplate) -> int:
    """Return how long running streams of a pod may go on once it has left the endpoints, before it would be killed."""
    grace = overlay.spec.termination_grace_period_seconds or TERMINATION_GRACE_SECONDS
    return max(5, grace - DRAIN_SECONDS - KILL_MARGIN_SECONDS)


def pod_template(
    target: Target, component: Component, overlay: PodTemplate, spec: Json, annotations: Mapping[str, str] | None = None
) -> Json:
    """Return a pod template: `spec` with the security and service account that all share, under the user's overlay."""
    base: Json = {
        "automountServiceAccountToken": False,
        # A Service called `vllm` would otherwise set VLLM_PORT in every engine, which vLLM reads as its own.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
    }
    metadata: Json = {"labels": {**overlay.metadata.labels, **target.labels(component)}}
    if merged := {**overlay.metadata.annotations, **(annotations or {})}:
        metadata["annotations"] = merged
    return {"metadata": metadata, "spec": _laid_over(base | spec, overlay.spec)}


def _laid_over(spec: Json, overlay: TemplateSpec) -> Json:
    """Lay the user's choices over a pod spec: volumes and mounts are added, the rest replaces field by field."""
    chosen = overlay.model_dump(
        by_alias=True, exclude_none=True, exclude={"volumes", "volume_mounts", "security_context"}
    )
    out = spec | {key: value for key, value in chosen.items() if value not in ({}, [])}
    out["securityContext"] = spec["securityContext"] | overlay.security_context
    if volumes := [*spec.get("volumes", []), *overlay.volumes]:
        out["volumes"] = volumes
    if overlay.volume_mounts:
        main, *others = spec["containers"]
        main = main | {"volumeMounts": [*main.get("volumeMounts", []), *overlay.volume_mounts]}
        out["containers"] = [main, *others]
    return out


def container_security(*, read_only_root: bool) -> Json:
    """Return the security context of a container under the Pod Security Standard `restricted`."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": read_only_root,
        "capabilities": {"drop": ["ALL"]},
    }


def environment(own: Mapping[str, str], users: Sequence[EnvVar] = ()) -> list[Json]:
    """Return a container's environment: the operator's, then the user's, which win by name."""
    named: dict[str, Json] = {name: {"name": name, "value": value} for name, value in own.items()}
    for entry in users:
        named[entry.name] = entry.model_dump(by_alias=True, exclude_none=True)
    return list(named.values())


def resources(wanted: Resources) -> Json:
    """Return the field `resources` of a container as the API server would store it, or nothing where all is empty."""
    found = {
        kind: {name: canonical(quantity) for name, quantity in amounts.items()}
        for kind, amounts in (("requests", wanted.requests), ("limits", wanted.limits))
        if amounts
    }
    return {"resources": found} if found else {}


def http_probe(path: str, port: str | int, *, period: int, failures: int, timeout: int = 5) -> Json:
    """Return an HTTP probe; times in seconds."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def port(name: str, number: int) -> Json:
    """Return a container port. The protocol is spelt out because server-side apply keys the list by it."""
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def service_port(name: str, number: int, to: str) -> Json:
    """Return a Service port that leads to the container port called `to`."""
    return {"name": name, "port": number, "targetPort": to, "protocol": "TCP"}


def headless_service(target: Target, component: Component, ports: list[Json]) -> Json:
    """Return a Service without an address of its own, whose name resolves to the ready pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": target.metadata(component),
        "spec": {"clusterIP": "None", "selector": target.own_selector(component), "ports": ports},
    }
