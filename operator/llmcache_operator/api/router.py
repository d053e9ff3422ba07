"""The router in front of the engines: how it picks, who may use it, and how its pods are."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from llmcache_operator.api.fields import Model, Switch, pattern_message, rule, rules
from llmcache_operator.api.pods import PodTemplate, Resources

_SECRET_NAME = Field(
    pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
    max_length=253,
    json_schema_extra=pattern_message("must be the name of a Secret: a-z, 0-9, '-' and '.'"),
    description="Name of the Secret.",
)


class RouterType(StrEnum):
    """What the router is to clients."""

    PROXY = "Proxy"
    ENDPOINT_PICKER = "EndpointPicker"


class Policy(StrEnum):
    """How the router picks an engine."""

    PREFIX_AWARE = "PrefixAware"
    SESSION_AFFINITY = "SessionAffinity"
    LEAST_LOADED = "LeastLoaded"
    ROUND_ROBIN = "RoundRobin"


class ApiKeysRef(Model):
    """A key of a Secret that holds API keys."""

    name: Annotated[str, _SECRET_NAME]
    key: Annotated[
        str,
        Field(
            pattern=r"^[-._A-Za-z0-9]+$",
            max_length=253,
            json_schema_extra=pattern_message("must be a key of a Secret: letters, digits, '-', '_' and '.'"),
            description="Key in the Secret whose value has one API key a line; lines that begin with # don't count.",
        ),
    ] = "keys"


class AuthSpec(Model):
    """Who may use the router."""

    api_keys_secret_ref: Annotated[
        ApiKeysRef,
        Field(
            description=(
                "API keys, of which clients must send one as `Authorization: Bearer KEY`. The router follows changes "
                "of the Secret without a restart; the kubelet passes them on within about a minute."
            )
        ),
    ]


class TlsSecretRef(Model):
    """A Secret of type kubernetes.io/tls."""

    name: Annotated[str, _SECRET_NAME]


class TlsSpec(Model):
    """TLS of the port that clients use."""

    secret_ref: Annotated[
        TlsSecretRef,
        Field(
            description=(
                "Secret of type kubernetes.io/tls with tls.crt and tls.key for the name in status.url, such as "
                "cert-manager writes it. The router follows its renewal without a restart."
            )
        ),
    ]


AdminPath = Annotated[
    str,
    Field(
        pattern=r"^(/[A-Za-z0-9_-]+)+$",
        max_length=128,
        json_schema_extra=pattern_message("must be a path such as /v1/load_lora_adapter, without query or final /"),
    ),
]


class RouterSpec(Model):
    """The router in front of the engines."""

    replicas: Annotated[
        int,
        Field(ge=1, le=64, json_schema_extra={"format": "int32"}, description="Number of routers."),
    ] = 2
    type: Annotated[
        RouterType,
        Field(
            description=(
                "Proxy: clients talk to the router. EndpointPicker: clients talk to a gateway of yours (Envoy, or one "
                "that implements the Gateway API Inference Extension), and the router tells it over gRPC, port 9002, "
                "which engine to take; where the cluster has the kind InferencePool, one is made."
            )
        ),
    ] = RouterType.PROXY
    gateway_namespace: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            max_length=63,
            json_schema_extra=pattern_message("must be the name of a namespace: a-z, 0-9 and '-'"),
            description=(
                "With type EndpointPicker: the namespace of the gateway's pods, the only ones that then may reach "
                "engines and routers. Left out: every pod may."
            ),
        ),
    ] = None
    policy: Annotated[
        Policy,
        Field(
            description=(
                "PrefixAware: the engine that has to compute least, by prompt prefix and load. SessionAffinity: by "
                "session header, bounded load. LeastLoaded and RoundRobin know nothing of caches."
            )
        ),
    ] = Policy.PREFIX_AWARE
    session_header: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z][A-Za-z0-9-]*$",
            max_length=64,
            json_schema_extra=pattern_message("must be a header name: letters, digits and '-', such as x-session-id"),
            description="Request header that names a session, such as x-session-id. Helps, is never needed.",
        ),
    ] = None
    auth: Annotated[
        AuthSpec | None,
        Field(description="Who may use the router. Left out: everybody who reaches its Service."),
    ] = None
    tls: Annotated[
        TlsSpec | None,
        Field(
            description=(
                "TLS of the port that clients use; the Service then has port 443 and no port 80. Left out: plain HTTP "
                "on port 80. Engines and probes are reached over plain HTTP either way. With type EndpointPicker: TLS "
                "of the gRPC port, which some gateways insist on."
            )
        ),
    ] = None
    admin_paths: Annotated[
        list[AdminPath],
        Field(
            max_length=32,
            json_schema_extra={"x-kubernetes-list-type": "set"},
            description=(
                "Paths of the engine to open beside those for inference, such as /v1/load_lora_adapter: all others "
                "answer 404. A request goes to one engine, not to each. Whoever has an API key may use them; with type "
                "EndpointPicker, whoever your gateway lets through."
            ),
        ),
    ] = []
    debug_headers: Annotated[
        Switch,
        Field(
            description=(
                "Enabled: responses name the engine that answered and the cache tiers that the router expected the "
                "prompt in, in headers that begin with x-llmcache-."
            )
        ),
    ] = Switch.DISABLED
    resources: Annotated[Resources, Field(description="Requests and limits of a router.")] = Resources(
        requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "512Mi"}
    )
    template: Annotated[PodTemplate, Field(description="A partial pod template for the router pods.")] = PodTemplate()

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule(
                "self.type == 'EndpointPicker' || !has(self.adminPaths) || size(self.adminPaths) == 0 || "
                "has(self.auth)",
                "open to everybody, they would let anyone stop the engines: set auth.apiKeysSecretRef",
                path=".adminPaths",
            ),
            rule(
                "self.type == 'Proxy' || !has(self.auth)",
                "with type EndpointPicker, clients meet your gateway: set keys there and remove this",
                path=".auth",
            ),
            rule(
                "self.type == 'EndpointPicker' || !has(self.gatewayNamespace)",
                "is for type EndpointPicker only: with type Proxy, clients come from anywhere",
                path=".gatewayNamespace",
            ),
        )
    }
