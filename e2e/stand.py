"""Everything that a service needs, in one call: a cluster, images, operator and models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e import images
from e2e.cluster import lifecycle
from e2e.install import install
from e2e.kube import Kube
from e2e.models import provide_models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2e.cluster.layout import Cluster


@dataclass(frozen=True)
class Stand:
    """A local cluster, its namespace `default`, and the images in it by short name."""

    cluster: Cluster
    kube: Kube
    refs: Mapping[str, str]


def bring_up(name: str, operator_args: tuple[str, ...] = ()) -> Stand:
    """Bring a local cluster up, with the operator installed and the test models in a claim.

    Raises ClusterError or TimeoutError that says what does not work.
    """
    cluster = lifecycle.up(name)
    refs = images.ensure(name)
    install(cluster.kubeconfig, refs, operator_args)
    kube = Kube(cluster.kubeconfig)
    provide_models(kube, refs)
    return Stand(cluster, kube, refs)
