"""Builds the images while Go builds the cluster: on a fresh machine each of them takes minutes and one core."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster import build, packages
from e2e.images.builder import TOOLS
from e2e.images.load import lacking
from e2e.images.progress import running

_SECONDS = 3600


@contextmanager
def built_ahead() -> Iterator[None]:
    """Build missing images beside the body, if the body has a cluster's binaries to build.

    Raises ClusterError like the build itself.
    """
    if build.built() or not lacking():
        yield
        return
    packages.require_root()
    # Now, for apt does not run twice at a time.
    packages.ensure({**packages.CLUSTER, **TOOLS})
    with running([sys.executable, "-m", "e2e.images", "build"], "building images meanwhile", seconds=_SECONDS):
        yield
