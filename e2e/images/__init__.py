"""The container images: built from the Dockerfiles of this repository, tagged by content, known to a cluster."""

from e2e.images.ahead import built_ahead
from e2e.images.load import ensure, stock
from e2e.images.spec import refs

__all__ = ["built_ahead", "ensure", "refs", "stock"]
