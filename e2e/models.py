"""Put the test models into a PersistentVolumeClaim, from the models image, as a user would from their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from e2e.cluster.console import step
from e2e.kube import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2e.kube import Kube

MANIFEST = Path(__file__).with_name("manifests") / "models.yaml"
JOB = "copy-models"


def provide_models(kube: Kube, refs: Mapping[str, str]) -> None:
    """Apply the claim `models` and the Job that fills it, and wait for the Job."""
    with step("models into the claim `models`"):
        kube.apply(MANIFEST.read_text().replace("localhost/llmcache/models:TAG", refs["models"]))

        def copied() -> bool:
            job = kube.get("job", JOB) or {}
            return bool(job.get("status", {}).get("succeeded"))

        wait_until(f"job/{JOB} has copied the models (kubectl describe job {JOB})", copied, seconds=180)
