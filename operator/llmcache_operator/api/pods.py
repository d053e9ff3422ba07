"""What users may say about the pods of a part: environment, resources and a partial pod template."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llmcache_operator.api.fields import AnyQuantity, LabelMap, Line, Model, OpenObject, rule, rules

RESERVED_PREFIXES = ("app.kubernetes.io/", "llmcache.dev/")

_NO_RESERVED_KEYS = rules(
    rule(
        "self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('llmcache.dev/'))",
        "keys under app.kubernetes.io/ and llmcache.dev/ belong to the operator: choose another prefix",
    )
)


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]
    key: Annotated[str, Field(min_length=1, max_length=253, description="Key in the Secret.")] = "token"


class EnvVar(Model):
    """One environment variable of a container, as in a Pod."""

    name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256, description="Name of the variable."),
    ]
    value: Annotated[str | None, Field(max_length=32768, description="Its value.")] = None
    value_from: Annotated[
        OpenObject | None,
        Field(description="Where the value comes from: secretKeyRef, configMapKeyRef or fieldRef, as in a Pod."),
    ] = None


class Resources(Model):
    """Requests and limits of a container, as in a Pod."""

    requests: Annotated[
        dict[str, AnyQuantity],
        Field(max_length=16, description="What the scheduler sets aside, such as cpu: 4, memory: 16Gi."),
    ] = {}
    limits: Annotated[
        dict[str, AnyQuantity],
        Field(max_length=16, description="What the container may not exceed, such as nvidia.com/gpu: 1."),
    ] = {}


class TemplateMetadata(Model):
    """Labels and annotations for the pods."""

    labels: Annotated[
        LabelMap,
        Field(json_schema_extra=_NO_RESERVED_KEYS, description="More labels for the pods."),
    ] = {}
    annotations: Annotated[
        LabelMap,
        Field(json_schema_extra=_NO_RESERVED_KEYS, description="More annotations for the pods."),
    ] = {}


class TemplateSpec(Model):
    """The part of a pod's spec that users may set."""

    node_selector: Annotated[LabelMap, Field(description="Labels that a node must have.")] = {}
    tolerations: Annotated[
        list[OpenObject],
        Field(max_length=32, description="Taints that the pods accept, as in a Pod."),
    ] = []
    affinity: Annotated[OpenObject, Field(description="Scheduling preferences, as in a Pod.")] = {}
    topology_spread_constraints: Annotated[
        list[OpenObject],
        Field(max_length=16, description="How the pods spread over nodes and zones, as in a Pod."),
    ] = []
    priority_class_name: Annotated[str | None, Field(max_length=253, description="PriorityClass of the pods.")] = None
    runtime_class_name: Annotated[
        str | None, Field(max_length=253, description="RuntimeClass of the pods, such as nvidia.")
    ] = None
    image_pull_secrets: Annotated[
        list[OpenObject],
        Field(max_length=16, description="Secrets for pulling images, as in a Pod: [{name: …}]."),
    ] = []
    security_context: Annotated[
        OpenObject,
        Field(description="Replaces single fields of the pod's security context, such as runAsUser or fsGroup."),
    ] = {}
    termination_grace_period_seconds: Annotated[
        int | None,
        Field(ge=30, le=86400, description="Seconds from the end of a pod's service to its kill. Default: 120."),
    ] = None
    volumes: Annotated[
        list[OpenObject],
        Field(max_length=32, description="More volumes, as in a Pod; mount them with volumeMounts."),
    ] = []
    volume_mounts: Annotated[
        list[OpenObject],
        Field(max_length=32, description="Mounts of those volumes in the main container, as in a container."),
    ] = []


class PodTemplate(Model):
    """A partial pod template, laid over the one that the operator makes."""

    metadata: Annotated[TemplateMetadata, Field(description="Labels and annotations for the pods.")] = (
        TemplateMetadata()
    )
    spec: Annotated[TemplateSpec, Field(description="Scheduling, volumes and security of the pods.")] = TemplateSpec()


Args = Annotated[list[Line], Field(max_length=64)]
Env = Annotated[
    list[EnvVar],
    Field(
        max_length=128,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
]
