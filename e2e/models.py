"""Put the test models into a PersistentVolumeClaim, from the models image, as a user would from their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from e2e.cluster.console import step
from e2e.kube import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2e.kube import Json, Kube

MANIFEST = Path(__file__).with_name("manifests") / "models.yaml"
REDRAW = MANIFEST.with_name("redraw_weights.py")
JOB = "copy-models"


def provide_models(kube: Kube, refs: Mapping[str, str]) -> None:
    """Apply the claim `models` and the Job that fills it, and wait for the Job."""
    with step("models into the claim `models`"):
        # A Job's template can't be changed: one of an earlier image has to go first.
        kube.run("delete", "job", JOB, "--ignore-not-found", "--cascade=foreground", "--timeout=60s", seconds=70)
        kube.apply(MANIFEST.read_text().replace("localhost/llmcache/models:TAG", refs["models"]))

        def copied() -> bool:
            job = kube.get("job", JOB) or {}
            return bool(job.get("status", {}).get("succeeded"))

        wait_until(f"job/{JOB} has copied the models (kubectl describe job {JOB})", copied, seconds=180)


def redraw_weights(kube: Kube, refs: Mapping[str, str], source: str, destination: str, *, seed: int | None) -> None:
    """Put the model `source` of the claim at `destination`, with other K and V projections if a seed is given.

    Runs `manifests/redraw_weights.py` in the engine image, next to engines that may have `destination` open.
    """
    name = f"redraw-{destination}"
    drawn = [] if seed is None else [str(seed)]
    command = ["python3", "-c", REDRAW.read_text(), f"/claim/{source}", f"/claim/{destination}", *drawn]
    with step(f"model {destination} from {source}"):
        kube.apply(_job(name, refs["engine-cpu"], command))

        def done() -> bool:
            job = kube.get("job", name) or {}
            return bool(job.get("status", {}).get("succeeded"))

        wait_until(f"job/{name} has written the model (kubectl logs job/{name})", done, seconds=180)
        kube.run("delete", "job", name, "--cascade=foreground", "--timeout=60s", seconds=70)


def _job(name: str, image: str, command: list[str]) -> Json:
    container: Json = {
        "name": "redraw",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "claim", "mountPath": "/claim"}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "claim", "persistentVolumeClaim": {"claimName": "models"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    spec = {"backoffLimit": 2, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
