"""The router: a Deployment behind the Service that clients talk to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.api.fields import Switch
from llmcache_operator.core.children import pods
from llmcache_operator.core.children.front_end import front_end, is_picker
from llmcache_operator.core.sharing import shares
from llmcache_operator.core.target import Component, Target

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

PRIVATE_PORT = 9090


def url(target: Target) -> str | None:
    """Return where clients in the cluster send requests; the port is the scheme's own. None behind a gateway."""
    if is_picker(target):
        return None
    scheme = "https" if target.spec.router.tls else "http"
    return f"{scheme}://{target.name(Component.ROUTER)}.{target.key.namespace}.svc"


def build(target: Target) -> tuple[Json, ...]:
    """Return the Service and the Deployment."""
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": target.metadata(Component.ROUTER),
        "spec": {"selector": target.selector(Component.ROUTER), "ports": [front_end(target).service_port]},
    }
    return (service, _deployment(target))


def _deployment(target: Target) -> Json:
    router = target.spec.router
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": target.selector(Component.ROUTER)},
    }
    spec: Json = {
        "serviceAccountName": target.name(Component.ROUTER),
        "automountServiceAccountToken": True,
        "topologySpreadConstraints": [spread],
        "containers": [_container(target)],
    }
    if volumes := [secret.volume for secret in front_end(target).secrets]:
        spec["volumes"] = volumes
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": target.metadata(Component.ROUTER),
        "spec": {
            "replicas": router.replicas,
            "selector": {"matchLabels": target.selector(Component.ROUTER)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pods.pod_template(target, Component.ROUTER, router.template, spec),
        },
    }


def _container(target: Target) -> Json:
    router, face = target.spec.router, front_end(target)
    mounts = [secret.mount for secret in face.secrets]
    return {
        "name": "router",
        "image": target.settings.router_image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "command": [face.command],
        "args": _args(target),
        "ports": [pods.port(face.port_name, face.port), pods.port("private", PRIVATE_PORT)],
        **pods.resources(router.resources),
        "securityContext": pods.container_security(read_only_root=True),
        "startupProbe": pods.http_probe("/healthz", "private", period=1, failures=60),
        "readinessProbe": pods.http_probe("/readyz", "private", period=2, failures=2),
        "livenessProbe": pods.http_probe("/healthz", "private", period=10, failures=6, timeout=10),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **({"volumeMounts": mounts} if mounts else {}),
    }


def _args(target: Target) -> list[str]:
    router, face = target.spec.router, front_end(target)
    return [
        *("--service", f"{target.key.namespace}/{target.name(Component.ENGINE)}"),
        *("--port", str(face.port), "--private-port", str(PRIVATE_PORT)),
        *("--policy", router.policy.value),
        *([] if shares(target.spec.cache) else ["--no-shared-tier"]),
        *(["--session-header", router.session_header] if router.session_header else []),
        *("--grace", str(pods.DRAIN_SECONDS), "--drain-timeout", str(pods.drain_seconds(router.template))),
        *(arg for secret in face.secrets for arg in secret.args),
        *(arg for path in sorted(router.admin_paths) for arg in ("--admin-path", path)),
        *(["--debug-headers"] if router.debug_headers is Switch.ENABLED else []),
    ]
