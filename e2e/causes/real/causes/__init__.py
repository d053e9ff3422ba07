"""All causes that are injected into real engines, in the order in which they are: what restarts pods comes late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.causes.real.causes import requests, server, strays

if TYPE_CHECKING:
    from e2e.causes.cause import Cause
    from e2e.causes.real.live import Live

CAUSES: tuple[Cause[Live], ...] = (*requests.CAUSES, *server.CAUSES, *strays.CAUSES)
