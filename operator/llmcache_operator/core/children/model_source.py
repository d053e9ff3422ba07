"""How an engine pod gets at its model's files, by the scheme of its uri. Engines never see these paths: see engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.core.children import pods

if TYPE_CHECKING:
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import Json

MOUNT = "/llmcache/source"
VOLUME = "model-source"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A volume with the files, the folder in it that holds them, and what must run first to fill it."""

    volume: Json
    folder: str
    fetch: tuple[Json, ...] = ()

    @property
    def mount(self) -> Json:
        """Mount of the volume for those who only read."""
        return {"name": VOLUME, "mountPath": MOUNT, "readOnly": True}


def model_source(target: Target) -> ModelSource:
    """Return the source for a service's model uri."""
    scheme, _, rest = target.spec.model.uri.partition("://")
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        # The whole claim is mounted: for a subPath that is missing, the kubelet would create a folder in the volume.
        # Read-only also for the kubelet, whose change of the files' group would look like a change of the weights.
        volume: Json = {"name": VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        return ModelSource(volume, f"{MOUNT}/{path}".rstrip("/"))
    if scheme == "oci":
        image: Json = {"reference": rest, "pullPolicy": target.settings.image_pull_policy}
        return ModelSource({"name": VOLUME, "image": image}, MOUNT)
    return ModelSource({"name": VOLUME, "emptyDir": {}}, MOUNT, (_fetch(target, rest),))


def _fetch(target: Target, repository: str) -> Json:
    """Return the init container that downloads a model with the hub's own command, once, before the engine starts."""
    model = target.spec.model
    revision = ["--revision", model.revision] if model.revision else []
    env = pods.environment({"HOME": "/tmp", "HF_HOME": "/tmp/hf"}, target.spec.engine.env)  # noqa: S108 - emptyDir
    if model.token_secret_ref:
        token = {"secretKeyRef": {"name": model.token_secret_ref.name, "key": model.token_secret_ref.key}}
        env = [*(entry for entry in env if entry["name"] != "HF_TOKEN"), {"name": "HF_TOKEN", "valueFrom": token}]
    return {
        "name": "fetch",
        "image": target.engine_image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "command": ["hf", "download", repository, *revision, "--local-dir", MOUNT],
        "env": env,
        "securityContext": pods.container_security(read_only_root=True),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": VOLUME, "mountPath": MOUNT}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
