"""The second tier of the cache, behind the memory of the LMCache servers: what they share, and what outlives them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from llmcache_operator.api.fields import Model, OpenObject, Quantity, Switch, pattern_message, rule, rules
from llmcache_operator.api.pods import PodTemplate

_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_Name = Annotated[str, Field(min_length=1, max_length=253)]
Extra = Annotated[
    OpenObject,
    Field(
        description=(
            "More keys of LMCache's adapter, as LMCache names them; nobody checks them, and those that the operator "
            "sets win."
        )
    ),
]


class Compression(StrEnum):
    """What is done to KV on its way to the L2."""

    FP8 = "FP8"


class KeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: Annotated[_Name, Field(description="Name of the Secret.")]
    key: Annotated[_Name, Field(description="Key in the Secret.")] = "password"


class CertificateRef(Model):
    """A certificate in a Secret in the same namespace."""

    name: Annotated[_Name, Field(description="Name of the Secret.")]
    key: Annotated[_Name, Field(description="Key in the Secret.")] = "ca.crt"


class SecretRef(Model):
    """A Secret in the same namespace."""

    name: Annotated[_Name, Field(description="Name of the Secret.")]


class Persistence(Model):
    """A volume that Valkey keeps its content on over a restart."""

    size: Annotated[Quantity, Field(description="Size of the volume; twice `memory` is safe.")]
    storage_class_name: Annotated[
        str | None, Field(max_length=253, description="StorageClass of the volume. Default: the cluster's.")
    ] = None


_KEPT = "it can't be changed: remove managed, apply, and add it again; the cache starts empty then"


class ManagedValkey(Model):
    """A Valkey that the operator runs, with a password that nobody has to know."""

    memory: Annotated[
        Quantity | None,
        Field(
            json_schema_extra=rules(
                rule(
                    "!isQuantity(self) || quantity(self).compareTo(quantity('64Mi')) >= 0",
                    "must be at least 64Mi",
                )
            ),
            description=(
                "Memory for cached KV (maxmemory). What was used longest ago goes when it is full. The pod's limit "
                "follows from it: a quarter and 256Mi more, or as much again with persistence. Default: what "
                "cache.capacity comes to, or else 4Gi."
            ),
        ),
    ] = None
    cpu: Annotated[Quantity, Field(description="CPU request; there is no limit.")] = "250m"
    image: Annotated[
        str | None,
        Field(min_length=1, max_length=512, description="Image with Valkey or Redis. Default: the operator's."),
    ] = None
    persistence: Annotated[
        Persistence | None, Field(description="Keep the content over a restart of Valkey. Default: memory only.")
    ] = None
    template: Annotated[PodTemplate, Field(description="A partial pod template for the Valkey pod.")] = PodTemplate()

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule("has(self.persistence) == has(oldSelf.persistence)", _KEPT, path=".persistence"),
            rule(
                "!has(self.persistence) || !has(oldSelf.persistence) || self.persistence == oldSelf.persistence",
                _KEPT,
                path=".persistence",
            ),
        )
    }


class StoreTls(Model):
    """TLS to an external store; its certificate is always verified."""

    ca_secret_ref: Annotated[
        CertificateRef | None,
        Field(description="Certificate that its own is verified with. Default: the public authorities."),
    ] = None


class ExternalValkey(Model):
    """A Valkey or Redis that somebody else runs. One node; no cluster mode."""

    address: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:[0-9]{1,5}$",
            max_length=300,
            json_schema_extra=pattern_message("must be HOST:PORT, such as valkey.infra.svc:6379"),
            description="Where it is, as HOST:PORT.",
        ),
    ]
    username: Annotated[
        str | None, Field(min_length=1, max_length=256, description="User name. Default: Valkey's own.")
    ] = None
    password_secret_ref: Annotated[KeyRef | None, Field(description="Its password (key: password by default).")] = None
    tls: Annotated[StoreTls | None, Field(description="Speak TLS with it. Default: plain TCP.")] = None


class Valkey(Model):
    """A Valkey or Redis: fast, shared by all engines, bounded."""

    managed: Annotated[ManagedValkey | None, Field(description="One that the operator runs.")] = None
    external: Annotated[ExternalValkey | None, Field(description="One that somebody else runs.")] = None
    extra: Extra = {}

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule("has(self.managed) != has(self.external)", "give exactly one of managed and external"),
        )
    }


class FileSystem(Model):
    """A folder in a PersistentVolumeClaim. A tenth of it is kept free: what was used longest ago is deleted."""

    claim_name: Annotated[
        str,
        Field(
            pattern=_NAME,
            max_length=253,
            json_schema_extra=pattern_message("must be the name of a PersistentVolumeClaim of this namespace"),
            description="PersistentVolumeClaim of this namespace; ReadWriteMany where servers on several nodes share.",
        ),
    ]
    path: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$",
            max_length=128,
            json_schema_extra=pattern_message("must be one folder's name: letters, digits, '.', '_' and '-'"),
            description="Folder in the claim; it is made if it is missing.",
        ),
    ] = "lmcache"
    extra: Extra = {}


class S3(Model):
    """A bucket of S3 or of a store that speaks its protocol and names buckets in the host."""

    bucket: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
            max_length=63,
            json_schema_extra=pattern_message("must be the name of a bucket"),
            description="Name of the bucket.",
        ),
    ]
    region: Annotated[str, Field(min_length=1, max_length=64, description="Region that requests are signed for.")]
    endpoint: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$",
            max_length=300,
            json_schema_extra=pattern_message("must be a host, with a port if need be, without https://"),
            description="Host that the bucket's name is put before. Default: s3.REGION.amazonaws.com.",
        ),
    ] = None
    credentials_secret_ref: Annotated[
        SecretRef | None,
        Field(
            description=(
                "Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Default: what the pod is otherwise given. "
                "LMCache's image must hold boto3."
            )
        ),
    ] = None
    tls: Annotated[Switch, Field(description="Disabled: plain HTTP, for stores inside the cluster.")] = Switch.ENABLED
    extra: Extra = {}


class L2(Model):
    """What LMCache servers share and what outlives them. They ask in this order: valkey, fileSystem, s3."""

    valkey: Annotated[Valkey | None, Field(description="A Valkey or Redis: fast, shared, bounded.")] = None
    file_system: Annotated[
        FileSystem | None, Field(description="A folder in a PersistentVolumeClaim, of which a tenth is kept free.")
    ] = None
    s3: Annotated[S3 | None, Field(description="A bucket: cheap and slow.")] = None
    compression: Annotated[
        Compression | None,
        Field(
            description=(
                "FP8: half the bytes of 16-bit KV in the L2, at a loss; answers may differ. A change starts a new "
                "cache identity."
            )
        ),
    ] = None
    encryption_key_secret_ref: Annotated[
        KeyRef | None,
        Field(
            description=(
                "Secret with key material (32 bytes or more) that KV in the L2 is encrypted with (AES-256-GCM). "
                "Switching it on or off starts a new cache identity; another key makes what is there unreadable."
            )
        ),
    ] = None

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            rule(
                "has(self.valkey) || has(self.fileSystem) || has(self.s3)",
                "give at least one of valkey, fileSystem and s3",
            ),
            rule(
                "!has(self.compression) || !has(self.encryptionKeySecretRef)",
                "LMCache either compresses or encrypts: remove compression or encryptionKeySecretRef",
                path=".compression",
            ),
        )
    }
