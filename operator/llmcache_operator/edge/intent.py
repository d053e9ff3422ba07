"""A mark on each child of the intent that it was applied with, so that a new process needn't apply all again.

Fifteen applies a service, at ten a second, would keep a restarted operator busy for a minute with forty services
that are as they should be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

MARK = "llmcache.dev/applied-intent"


def marked(desired: Json, intent: str) -> Json:
    """Return an object with the mark of an intent, a fingerprint."""
    meta = desired["metadata"]
    annotations = {**meta.get("annotations", {}), MARK: intent}
    return {**desired, "metadata": {**meta, "annotations": annotations}}


def fulfils(live: Json, desired: Json, intent: str) -> bool:
    """Whether applying would change nothing.

    The mark says that this very intent was applied last, so nothing of an older one is left; and every value that
    is wanted is there, so nobody changed one since.
    """
    mark = (live["metadata"].get("annotations") or {}).get(MARK)
    return mark == intent and _contains(live, desired)


def _contains(live: Any, wanted: Any) -> bool:
    """Whether what is wanted is there; the server and others may have added fields, but no list items."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(key in live and _contains(live[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        same_length = isinstance(live, list) and len(live) == len(wanted)
        return same_length and all(_contains(there, want) for there, want in zip(live, wanted, strict=True))
    return bool(live == wanted)
