"""What the operator remembers of its own writes until its watches have caught up with them.

Nothing here is needed for correctness after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmcache_operator.core.values import Json, ObjectRef, Rejection, ServiceKey

if TYPE_CHECKING:
    from collections.abc import Iterable

GRACE = 5.0
"""Seconds that a watch gets to show an object which the API server says it holds."""


def ref_of(obj: Json) -> ObjectRef:
    """Name an object."""
    return ObjectRef(obj["apiVersion"], obj["kind"], obj["metadata"]["name"])


def trimmed(obj: Json) -> Json:
    """Drop `managedFields`, often the larger half of an object, except where `core` reads who set replicas."""
    if obj["kind"] == "Deployment":
        return obj
    meta = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": meta}


def version_of(obj: Json) -> int:
    """Return the resource version as a number: of one resource, the higher is the newer.

    Source: KEP-5504, comparable resource versions. Anything else counts as the newest.
    """
    version = str(obj["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdigit() else 2**64


@dataclass(slots=True)
class Applied:
    """One child as our last apply left it: what we sent and what came back, as fingerprints and object."""

    desired: str
    answered: str
    live: Json
    at: float
    seen: bool = False


@dataclass(slots=True)
class Refused:
    """One child that the API server would not take, and when to ask again."""

    desired: str
    rejection: Rejection
    until: float


@dataclass(slots=True)
class Memory:
    """What is remembered of one LLMCacheService; times are in seconds of the wall clock."""

    uid: str
    applied: dict[ObjectRef, Applied] = field(default_factory=dict)
    refused: dict[ObjectRef, Refused] = field(default_factory=dict)
    stumbles: dict[ObjectRef, int] = field(default_factory=dict)
    deleted: dict[str, float] = field(default_factory=dict)
    there: dict[ObjectRef, float] = field(default_factory=dict)
    """Secrets that were there when somebody last looked, and when that was."""
    written: Json | None = None
    written_at: float = 0.0
    over: bool = False
    """The namespace is being deleted, which nobody can undo: there is nothing left to do."""

    def children(self, watched: Iterable[Json], now: float) -> dict[ObjectRef, Json]:
        """Return each child at its newest, from the watches and from the answers to our own writes."""
        self.deleted = {uid: at for uid, at in self.deleted.items() if now - at < 6 * GRACE}
        newest = {ref_of(obj): obj for obj in watched if obj["metadata"]["uid"] not in self.deleted}
        for ref, entry in list(self.applied.items()):
            found = newest.get(ref)
            if found is not None and version_of(found) >= version_of(entry.live):
                entry.seen = True
            elif found is None and (entry.seen or now - entry.at > GRACE):
                del self.applied[ref]
            else:
                newest[ref] = entry.live
        return dict(sorted(newest.items()))

    def resource(self, watched: Json) -> Json:
        """Return the custom resource with the status that we wrote last, where the watch doesn't have it yet."""
        if self.written is None or version_of(watched) >= version_of(self.written):
            return watched
        return {**watched, "status": self.written.get("status", {})}

    def look_again_in(self, now: float) -> float | None:
        """Return the seconds until something remembered wants another look; None if nothing does."""
        waits = [entry.at + GRACE - now for entry in self.applied.values() if not entry.seen]
        waits += [entry.until - now for entry in self.refused.values()]
        waits += [at + 6 * GRACE - now for at in self.deleted.values()]
        return min((max(wait, 0.1) for wait in waits if wait >= 0), default=None)


class Memories:
    """A memory per LLMCacheService, renewed when another object takes its name."""

    def __init__(self) -> None:
        self._by_key: dict[ServiceKey, Memory] = {}

    def of(self, key: ServiceKey, uid: str, now: float) -> Memory:
        """Recall, or begin to remember.

        A status that was there before counts as written now: after a restart, measurements get the time to come
        in again before a status without them replaces one that has them.
        """
        memory = self._by_key.get(key)
        if memory is None or memory.uid != uid:
            memory = self._by_key[key] = Memory(uid, written_at=now)
        return memory

    def forget(self, key: ServiceKey) -> None:
        """Drop everything about a service that is gone."""
        self._by_key.pop(key, None)
