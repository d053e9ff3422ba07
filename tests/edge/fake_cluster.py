"""A cluster in memory: server-side apply, resource versions, garbage collection, faults at any call.

Good enough of server-side apply: each manager's last intent is kept; a later write wins a leaf, forced; a leaf
that no intent holds any more is gone. Lists are leaves, as they are for our children between two applies.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmcache_operator.edge.cluster import CHILD_MANAGER, PLURALS, STATUS_MANAGER
from llmcache_operator.edge.errors import ApiError
from llmcache_operator.edge.memory import ref_of, trimmed
from llmcache_operator.edge.watching import keys_of, owner_of

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json, ServiceKey

Name = tuple[str, str, str, str]
Path = tuple[str, ...]


class Crash(BaseException):
    """The process dies here."""


@dataclass(frozen=True)
class Call:
    """One write as it was asked for."""

    number: int
    verb: str
    kind: str
    name: str


Fault = Callable[[Call, str], None]
"""Called with each write, and "before" or "after": raise to crash, to refuse or to lose the answer."""


def no_fault(_call: Call, _when: str) -> None:
    """All goes well."""


@dataclass
class Stored:
    """One object: its managers' intents in order of time, and what the server adds."""

    intents: OrderedDict[str, dict[Path, Any]]
    added: Json
    status: Json = field(default_factory=dict)
    rendered: Json | None = None


@dataclass
class FakeCluster:
    """Fulfils `Cluster` and `View`. `calls` holds every write that was asked for.

    `running` are the pods, and `warnings` the Events about them by UID.
    """

    fault: Fault = no_fault
    calls: list[Call] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    warnings: dict[str, list[Json]] = field(default_factory=dict)
    running: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stored: dict[Name, Stored] = {}
        self._numbers = itertools.count(1)

    # What the operator writes.

    async def read(self, obj: Json) -> Json | None:
        """See `Cluster`."""
        stored = self._stored.get(_name(obj))
        return self._made(stored) if stored else None

    async def apply(self, obj: Json) -> Json:
        """See `Cluster`."""
        assert (obj["apiVersion"], obj["kind"]) in PLURALS, f"the operator knows no path for {obj['kind']}"
        with self._call("apply", obj):
            if obj["kind"] == "Event":
                self.events.append(obj)
                return obj
            return self.put(obj, CHILD_MANAGER)

    async def apply_status(self, resource: Json, status: Json) -> Json:
        """See `Cluster`."""
        with self._call("status", resource):
            stored = self._stored.get(_name(resource))
            if stored is None or stored.added["uid"] != resource["metadata"]["uid"]:
                raise ApiError(404, "NotFound", "no such object")
            if stored.status != status:
                stored.status = status
                self._touch(stored)
            return self._render(_name(resource))

    async def create(self, obj: Json) -> None:
        """See `Cluster`."""
        with self._call("create", obj):
            if _name(obj) in self._stored:
                raise ApiError(409, "AlreadyExists", "there is one of this name")
            self.put(obj, CHILD_MANAGER)

    async def delete(self, obj: Json) -> None:
        """See `Cluster`."""
        with self._call("delete", obj):
            stored = self._stored.get(_name(obj))
            if stored is not None:
                assert stored.added["uid"] == obj["metadata"]["uid"]
                self.remove(obj)

    async def warnings_about(self, pod: Json) -> list[Json]:
        """See `Cluster`."""
        return self.warnings.get(pod["metadata"]["uid"], [])

    async def get_lease(self, namespace: str, name: str) -> Json:
        """See `Cluster`."""
        raise NotImplementedError

    async def create_lease(self, lease: Json) -> Json:
        """See `Cluster`."""
        raise NotImplementedError

    async def replace_lease(self, lease: Json) -> Json:
        """See `Cluster`."""
        raise NotImplementedError

    # What others do.

    def put(self, obj: Json, manager: str = "kubectl") -> Json:
        """Apply an intent in somebody's name."""
        name = _name(obj)
        intent = dict(_leaves(_content(obj)))
        stored = self._stored.get(name)
        if stored is None:
            added = {"uid": f"uid-{next(self._numbers)}", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 0}
            stored = self._stored[name] = Stored(OrderedDict(), added)
        before = self._merged(stored)
        for other in stored.intents.values():
            for path in intent.keys() & other.keys():
                if other[path] != intent[path]:
                    del other[path]
        stored.intents.pop(manager, None)
        stored.intents[manager] = intent
        after = self._merged(stored)
        stored.rendered = None
        if before != after:
            self._touch(stored)
            stored.added["generation"] += before.get("spec") != after.get("spec")
        return self._render(name)

    def set_status(self, obj: Json, status: Json) -> None:
        """Report, as a controller does."""
        stored = self._stored[_name(obj)]
        if stored.status != status:
            stored.status = status
            self._touch(stored)

    def remove(self, obj: Json) -> None:
        """Delete an object and what it owns."""
        uid = self._stored.pop(_name(obj)).added["uid"]
        for child in self.children(uid):
            self.remove(child)

    # What the watches show.

    def service(self, key: ServiceKey) -> Json | None:
        """See `View`."""
        found = [obj for obj in self.objects() if obj["kind"] == "LLMCacheService" and key in set(keys_of(obj))]
        return found[0] if found else None

    def children(self, uid: str) -> tuple[Json, ...]:
        """See `View`."""
        return tuple(obj for obj in self.objects() if (owner_of(obj) or {}).get("uid") == uid)

    def pods(self, key: ServiceKey) -> tuple[Json, ...]:
        """See `View`."""
        return tuple(self.running)

    def objects(self) -> list[Json]:
        """Everything there is, sorted by name."""
        return [self._render(name) for name in sorted(self._stored)]

    def find(self, kind: str, name: str) -> Json:
        """One object; KeyError if there is none."""
        found = {(obj["kind"], obj["metadata"]["name"]): obj for obj in self.objects()}
        return found[kind, name]

    def _call(self, verb: str, obj: Json) -> _Calling:
        call = Call(len(self.calls), verb, obj["kind"], obj["metadata"]["name"])
        self.calls.append(call)
        return _Calling(self, call)

    def _touch(self, stored: Stored) -> None:
        stored.added["resourceVersion"] = str(next(self._numbers))
        stored.rendered = None

    def _merged(self, stored: Stored) -> Json:
        merged: Json = {}
        for intent in stored.intents.values():
            for path, value in intent.items():
                _set(merged, path, value)
        return merged

    def _render(self, name: Name) -> Json:
        stored = self._stored[name]
        if stored.rendered is None:
            stored.rendered = trimmed(self._made(stored))
        return stored.rendered

    def _made(self, stored: Stored) -> Json:
        obj = self._merged(stored)
        fields = [{"manager": manager, "fieldsV1": _fields(intent)} for manager, intent in stored.intents.items()]
        obj["metadata"] |= stored.added | {"managedFields": fields}
        if stored.status:
            obj["status"] = stored.status
        return obj


@dataclass
class _Calling:
    cluster: FakeCluster
    call: Call

    def __enter__(self) -> None:
        self.cluster.fault(self.call, "before")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.cluster.fault(self.call, "after")


def _name(obj: Json) -> Name:
    return (obj["metadata"]["namespace"], *ref_of(obj))


def _content(obj: Json) -> Json:
    kept = {key: value for key, value in obj.items() if key not in {"status", "metadata"}}
    meta = {key: value for key, value in obj["metadata"].items() if key in _INTENT}
    return {**kept, "metadata": meta}


_INTENT = {"name", "namespace", "labels", "annotations", "ownerReferences", "deletionTimestamp"}


def _leaves(value: Json, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def _set(target: Json, path: Path, value: Any) -> None:
    for key in path[:-1]:
        target = target.setdefault(key, {})
    target[path[-1]] = value


def _fields(intent: dict[Path, Any]) -> Json:
    fields: Json = {}
    for path in intent:
        inner = fields
        for key in path:
            inner = inner.setdefault(f"f:{key}", {})
    return fields


__all__ = ["STATUS_MANAGER", "Call", "Crash", "FakeCluster", "Fault", "no_fault"]
