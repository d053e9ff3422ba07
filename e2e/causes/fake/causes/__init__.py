"""All causes that are injected into fake engines, a file for each group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.causes.fake.causes import counting, identity, requests, server, sharing, versions

if TYPE_CHECKING:
    from e2e.causes.cause import Cause
    from e2e.causes.fake.fleet import Fleet

CAUSES: tuple[Cause[Fleet], ...] = (
    *identity.CAUSES,
    *server.CAUSES,
    *requests.CAUSES,
    *counting.CAUSES,
    *versions.CAUSES,
    *sharing.CAUSES,
)
