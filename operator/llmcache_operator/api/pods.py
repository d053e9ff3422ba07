"""What users may say about the pods of a part: environment, resources and a partial pod template."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llmcache_operator.api.fields import Amounts, LabelMap, Model, OpenObject, pattern_message, rule, rules

_OPERATORS_KEY = "key.startsWith('app.kubernetes.io/') || key.startsWith('llmcache.dev/')"
_NO_RESERVED_KEYS = rules(
    rule(
        f"!self.exists(key, {_OPERATORS_KEY})",
        "keys under app.kubernetes.io/ and llmcache.dev/ belong to the operator: choose another prefix",
        says=f"self.filter(key, {_OPERATORS_KEY})[0] + ' belongs to the operator: choose another prefix'",
    )
)
# What the operator sets itself, and what would move or open the ports that it relies on.
RESERVED_ENV = (
    "HOME",
    "USER",
    "PYTHONHASHSEED",
    "VLLM_PORT",
    "VLLM_HOST_IP",
    "VLLM_API_KEY",
    "VLLM_CPU_KVCACHE_SPACE",
    "VLLM_SERVER_DEV_MODE",
    "LMCACHE_MP_TRANSFER_MODE",
    "LMCACHE_CONFIG_FILE",
)


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]
    key: Annotated[str, Field(min_length=1, max_length=253, description="Key in the Secret.")] = "token"


class EnvVar(Model):
    """One environment variable of a container, as in a Pod."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            max_length=256,
            json_schema_extra=pattern_message("must hold only letters, digits and '_', and not start with a digit")
            | rules(
                rule(
                    f"!(self in {list(RESERVED_ENV)})",
                    "must be no variable that the operator sets itself",
                    says="'the operator sets ' + self + ' itself: remove it'",
                )
            ),
            description="Name of the variable.",
        ),
    ]
    value: Annotated[str | None, Field(max_length=32768, description="Its value.")] = None
    value_from: Annotated[
        OpenObject | None,
        Field(description="Where the value comes from: secretKeyRef, configMapKeyRef or fieldRef, as in a Pod."),
    ] = None

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule("!has(self.value) || !has(self.valueFrom)", "give value or valueFrom, not both", path=".valueFrom")
        )
    }


class Resources(Model):
    """Requests and limits of a container, as in a Pod."""

    requests: Annotated[
        Amounts,
        Field(description="What the scheduler sets aside, such as cpu: 4, memory: 16Gi."),
    ] = {}
    limits: Annotated[
        Amounts,
        Field(description="What the container may not exceed, such as nvidia.com/gpu: 1."),
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


Env = Annotated[
    list[EnvVar],
    Field(
        max_length=128,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
]
