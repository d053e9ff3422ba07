"""An engine with other weights at the very path of the others, which the operator's gate would never allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2e.kube import Json


def disguise(spec: Json, folder: str, path: str) -> None:
    """Change the spec of an engine pod: it serves `folder` of its claim, under `path`."""
    (gate,) = (one for one in spec["initContainers"] if one["name"] == "gate")
    link = f"ln -sfn /llmcache/source/{folder} {path} && printf %s {path} > /llmcache/run/model-path"
    shell = {"image": spec["containers"][0]["image"], "command": ["sh", "-c", link], "args": []}
    spec["initContainers"].append(gate | {"name": "disguise"} | shell)
