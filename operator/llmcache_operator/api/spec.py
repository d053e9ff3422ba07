"""The spec of an LLMCacheService: what a user asks for."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from llmcache_operator.api.arguments import Args
from llmcache_operator.api.cache import CacheSpec
from llmcache_operator.api.fields import Model, Quantity, Switch, pattern_message, rule, rules
from llmcache_operator.api.pods import Env, PodTemplate, Resources, SecretKeyRef
from llmcache_operator.api.router import RouterSpec

MODEL_URI_PATTERN = (
    r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
    r"|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"
    r"|oci://[a-z0-9][A-Za-z0-9._:/@-]+)$"
)


class Device(StrEnum):
    """What engines compute on."""

    GPU = "GPU"
    CPU = "CPU"


class Dtype(StrEnum):
    """The type of weights and of the KV cache, as vLLM names them."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class KvType(StrEnum):
    """The type of cached KV."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FP8 = "fp8"


class KvShape(Model):
    """What a token's KV is made of: `num_hidden_layers`, `num_key_value_heads` and `head_dim` of config.json."""

    layers: Annotated[int, Field(ge=1, le=1000, json_schema_extra={"format": "int32"}, description="Number of layers.")]
    heads: Annotated[
        int,
        Field(ge=1, le=1024, json_schema_extra={"format": "int32"}, description="KV heads; 1 for latent attention."),
    ]
    head_dim: Annotated[
        int,
        Field(
            ge=1,
            le=8192,
            json_schema_extra={"format": "int32"},
            description="Numbers in a head; for latent attention kv_lora_rank + qk_rope_head_dim.",
        ),
    ]
    planes: Annotated[
        int,
        Field(ge=1, le=2, json_schema_extra={"format": "int32"}, description="2: keys and values. 1: latent."),
    ] = 2
    dtype: Annotated[KvType, Field(description="Type of the numbers.")] = KvType.BFLOAT16


class ModelSpec(Model):
    """The model that every engine serves."""

    uri: Annotated[
        str,
        Field(
            pattern=MODEL_URI_PATTERN,
            max_length=512,
            json_schema_extra=pattern_message(
                "must be hf://ORG/REPO, pvc://CLAIM or pvc://CLAIM/PATH (no part of the path starts with a dot), "
                "or oci://REGISTRY/IMAGE"
            ),
            description=(
                "Where the weights are. hf://org/repo: fetched from the Hugging Face hub when a pod starts. "
                "pvc://claim/path: a folder in a PersistentVolumeClaim of this namespace, mounted read-only. "
                "oci://registry/image: an image volume (Kubernetes 1.35 or later, containerd 2.1 or later)."
            ),
        ),
    ]
    revision: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
            max_length=128,
            json_schema_extra=pattern_message("must start with a letter or digit and hold only those and . _ / -"),
            description=(
                "Revision on the hub for hf://, and for every scheme your own mark that the weights have changed: "
                "a new value rolls the engines and starts a new cache identity."
            ),
        ),
    ] = None
    served_name: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$",
            max_length=256,
            json_schema_extra=pattern_message("must start with a letter or digit and hold only those and . _ / : -"),
            description="The name that clients send as `model`. Default: the name of this resource.",
        ),
    ] = None
    kv: Annotated[
        KvShape | None,
        Field(description="What a token's KV is made of, for sizes in tokens. `make sizing` reads it from a model."),
    ] = None
    token_secret_ref: Annotated[
        SecretKeyRef | None, Field(description="Hub token for a gated hf:// model (key: token by default).")
    ] = None

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule(
                "!has(self.tokenSecretRef) || self.uri.startsWith('hf://')",
                "tokenSecretRef is for hf:// models only: remove it or use an hf:// uri",
                path=".tokenSecretRef",
            )
        )
    }


class EngineSpec(Model):
    """The vLLM engines."""

    replicas: Annotated[
        int | None,
        Field(
            ge=0,
            le=1024,
            json_schema_extra={"format": "int32"},
            description=(
                "Number of engines; `kubectl scale` sets it too. Leave it out when an autoscaler scales the engine "
                "Deployment itself: the operator then never writes it."
            ),
        ),
    ] = None
    image: Annotated[
        str | None,
        Field(min_length=1, max_length=512, description="Image with vLLM and LMCache. Default: the operator's."),
    ] = None
    device: Annotated[Device, Field(description="What the engines compute on: GPU or CPU.")] = Device.GPU
    dtype: Annotated[Dtype, Field(description="Type of weights and KV cache; auto takes the model's own.")] = Dtype.AUTO
    max_model_len: Annotated[
        int | None,
        Field(
            ge=256,
            le=16777216,
            json_schema_extra={"format": "int32"},
            description="Longest prompt plus answer, in tokens. Default: the model's own.",
        ),
    ] = None
    block_size: Annotated[
        int,
        Field(
            ge=16,
            le=1024,
            multiple_of=16,
            json_schema_extra={"format": "int32"},
            description="Tokens in a block of vLLM's KV cache; a divisor of cache.chunkSize.",
        ),
    ] = 32
    tensor_parallel_size: Annotated[
        int,
        Field(ge=1, le=64, json_schema_extra={"format": "int32"}, description="GPUs that share one engine."),
    ] = 1
    kv_cache_memory: Annotated[
        Quantity | None,
        Field(
            json_schema_extra=rules(
                rule(
                    "!isQuantity(self) || quantity(self).compareTo(quantity('64Mi')) >= 0",
                    "must be at least 64Mi",
                )
            ),
            description=(
                "Memory of each engine's own KV cache. Default on a GPU: what vLLM finds free. Default on a CPU: 1Gi."
            ),
        ),
    ] = None
    args: Annotated[
        Args,
        Field(
            description="More arguments for `vllm serve`. Those that the operator sets itself are refused.",
        ),
    ] = []
    env: Annotated[
        Env,
        Field(
            description="More environment for the engine container. Names that the operator sets itself are refused."
        ),
    ] = []
    resources: Annotated[
        Resources, Field(description="Requests and limits of the engine container, GPUs included.")
    ] = Resources()
    template: Annotated[PodTemplate, Field(description="A partial pod template for the engine pods.")] = PodTemplate()

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule(
                "self.device != 'CPU' || self.blockSize % 32 == 0",
                "must be a multiple of 32 where device is CPU",
                path=".blockSize",
            ),
        )
    }


class ServiceSpec(Model):
    """What a user asks for: a model, engines that serve it, the cache that they share, a router in front."""

    model: Annotated[ModelSpec, Field(description="The model that every engine serves.")]
    engine: Annotated[EngineSpec, Field(description="The vLLM engines.")] = EngineSpec()
    cache: Annotated[CacheSpec, Field(description="The KV cache that the engines share.")] = CacheSpec()
    router: Annotated[RouterSpec, Field(description="The router in front of the engines.")] = RouterSpec()
    network_policy: Annotated[
        Switch,
        Field(
            description=(
                "Enabled: NetworkPolicies let only this service's engines reach the cache server, which has no "
                "password of its own, and only routers and the operator reach the engines."
            )
        ),
    ] = Switch.ENABLED

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule(
                "self.cache.chunkSize % self.engine.blockSize == 0",
                "must be a multiple of engine.blockSize",
                path=".cache.chunkSize",
            ),
            rule(
                "!has(self.engine.maxModelLen) || self.engine.maxModelLen > self.cache.chunkSize",
                "must be larger than cache.chunkSize: a prompt of less than a chunk is never shared",
                path=".engine.maxModelLen",
            ),
            rule(
                "self.cache.topology != 'NodeLocal' || self.engine.device == 'GPU'",
                "NodeLocal is for GPUs, whose memory the server maps: use PerEngine on CPUs",
                path=".cache.topology",
            ),
            rule(
                "!has(self.cache.capacity) || has(self.model.kv)",
                "cache.capacity needs model.kv: `make sizing MODEL=path/to/config.json` prints it",
                path=".model",
            ),
        )
    }
