"""The cluster that end-to-end tests run against: made here, made by kind, or one that exists."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from e2e.cluster import images, slots

if TYPE_CHECKING:
    from pytest_kind import KindCluster

Kind = Literal["local", "kind", "existing"]


class Handle(Protocol):
    """What tests may ask of a cluster, whatever its kind."""

    @property
    def kind(self) -> Kind:
        """Which of the three it is."""

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with the rights of an administrator."""

    def audit_log(self) -> list[dict[str, Any]] | None:
        """Every write that the API server completed so far, oldest first; None where the log can't be read."""

    def load_images(self, refs: Sequence[str]) -> None:
        """Make images known to all nodes."""


@dataclass(frozen=True)
class Local:
    """A cluster of this package."""

    kind: ClassVar[Kind] = "local"
    name: str

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return slots.get(self.name).kubeconfig

    def audit_log(self) -> list[dict[str, Any]] | None:
        """Read the log that the API server writes on this machine."""
        lines = slots.get(self.name).audit_log.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["stage"] == "ResponseComplete"]

    def load_images(self, refs: Sequence[str]) -> None:
        """Give the cluster these images of the cache; raises ClusterError if one is not there."""
        images.sync(self.name, refs)


@dataclass(frozen=True)
class KindMade:
    """A cluster of kind, through pytest-kind."""

    kind: ClassVar[Kind] = "kind"
    cluster: "KindCluster"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig that kind wrote."""
        return Path(self.cluster.kubeconfig_path).absolute()

    def audit_log(self) -> list[dict[str, Any]] | None:
        """Return None: kind's API server keeps none unless it is configured to."""
        return None

    def load_images(self, refs: Sequence[str]) -> None:
        """Copy images from the Docker daemon to the nodes."""
        for ref in refs:
            self.cluster.load_docker_image(ref)


@dataclass(frozen=True)
class Existing:
    """A cluster that somebody else made."""

    kind: ClassVar[Kind] = "existing"
    kubeconfig: Path

    def audit_log(self) -> list[dict[str, Any]] | None:
        """Return None: where the log is, if there is one, is not known."""
        return None

    def load_images(self, refs: Sequence[str]) -> None:
        """Do nothing: its nodes must be able to pull the images, or hold them."""
