"""Bring the children to their plan: apply what differs, delete what is left over, report what was refused."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.content import fingerprint
from llmcache_operator.core.values import Json, ObjectRef, Plan, Rejection
from llmcache_operator.edge.cluster import CHILD_MANAGER
from llmcache_operator.edge.errors import ApiError, RetryLaterError
from llmcache_operator.edge.intent import fulfils, marked
from llmcache_operator.edge.memory import Applied, Memory, Refused, ref_of, trimmed, version_of
from llmcache_operator.edge.watching import OPTIONAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmcache_operator.edge.cluster import Cluster
    from llmcache_operator.edge.metrics import Metrics

REFUSAL_PAUSE = 15.0
"""Seconds before a refused child is tried again unchanged: people mend quotas and permissions."""

SECRET_PAUSE = 600.0
"""Seconds after which it is made sure again that a Secret is there: nobody tells of Secrets that are not watched."""

PATIENCE = 3
"""Failures in a row of one child before it is reported: a hiccup is nobody's business."""

# Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go, ValidateOwnerReferences.
_OTHER_CONTROLLER = "Only one reference can have Controller set to true"

log = logging.getLogger(__name__)


class NamespaceGoneError(Exception):
    """The namespace is being deleted or is gone: all work in it is over."""


@dataclass(slots=True)
class Application:
    """One pass over one plan. Remembers in `memory`; `now` is in seconds of the wall clock.

    Afterwards `rejections` holds what to tell about, and `retry` what asks for another pass, if anything.
    """

    cluster: Cluster
    metrics: Metrics
    memory: Memory
    now: float
    about: Mapping[str, object]
    rejections: list[Rejection] = field(default_factory=list)
    retry: RetryLaterError | None = None

    async def carry_out(self, plan: Plan, live: Mapping[ObjectRef, Json]) -> None:
        """Apply in the order of the plan, then prune if nothing failed.

        Pruning waits for the rest, so that what still works goes only once its successor stands.
        Raises `RetryLaterError` when the API server can't be worked with now, `NamespaceGoneError`.
        """
        planned = {ref_of(obj) for obj in (*plan.apply, *plan.secrets)}
        self.memory.refused = {ref: entry for ref, entry in self.memory.refused.items() if ref in planned}
        for secret in plan.secrets:
            await self._make_sure_of(secret)
        for desired in plan.apply:
            await self._bring(desired, live.get(ref_of(desired)))
        if not self.rejections and self.retry is None:
            for leftover in plan.prune:
                await self._prune(leftover)

    async def _make_sure_of(self, secret: Json) -> None:
        """Create a Secret with a random value for each of its keys, unless one of its name is there.

        The operator may create Secrets and may not read, change or delete any, so what is there stays as it is.
        """
        ref = ref_of(secret)
        if self.now - self.memory.there.get(ref, 0.0) < SECRET_PAUSE:
            return
        values = {key: secrets.token_hex(24) for key in secret["stringData"]}
        try:
            await self.cluster.create({**secret, "stringData": values})
        except ApiError as error:
            if error.code != 409:
                self._note_failure(ref, "", error)
                return
        self.memory.there[ref] = self.now

    async def _bring(self, desired: Json, live: Json | None) -> None:
        ref, wanted = ref_of(desired), fingerprint(desired)
        if live is not None and self._holds(ref, wanted, desired, live):
            return
        refused = self.memory.refused.get(ref)
        if refused and refused.desired == wanted and self.now < refused.until:
            self.rejections.append(refused.rejection)
            return
        try:
            if live is None:
                await self._refuse_if_taken(desired)
            answer = trimmed(await self.cluster.apply(marked(desired, wanted)))
        except ApiError as error:
            self._note_failure(ref, wanted, error)
        else:
            self._note_success(ref, wanted, live, answer)

    async def _refuse_if_taken(self, desired: Json) -> None:
        """Look before a forced apply takes over what a user happens to have under the name of a child.

        What we once wrote is ours, also when its owner or labels were torn off or it was orphaned.
        """
        held = await self.cluster.read(desired)
        if held is not None and CHILD_MANAGER not in managers(held):
            raise ApiError(422, Reason.NAME_TAKEN, f"{held['kind']} {held['metadata']['name']} is somebody else's")

    def _holds(self, ref: ObjectRef, wanted: str, desired: Json, live: Json) -> bool:
        """Whether the child is as the last apply of this very intent left it, by this process or one before it."""
        entry = self.memory.applied.get(ref)
        if entry is None and fulfils(live, desired, wanted):
            entry = self.memory.applied[ref] = Applied(wanted, fingerprint(live), live, self.now, seen=True)
        return entry is not None and entry.desired == wanted and entry.answered == fingerprint(live)

    def _note_success(self, ref: ObjectRef, wanted: str, live: Json | None, answer: Json) -> None:
        changed = live is None or version_of(live) != version_of(answer)
        self.memory.applied[ref] = Applied(wanted, fingerprint(answer), answer, self.now)
        self.memory.refused.pop(ref, None)
        self.memory.stumbles.pop(ref, None)
        self.metrics.applies.labels(ref.kind, "changed" if changed else "unchanged").inc()
        if changed:
            verb = "created" if live is None else "corrected"
            log.info("%s %s %s", verb, ref.kind, ref.name, extra={"about": self.about})

    def _note_failure(self, ref: ObjectRef, wanted: str, error: ApiError) -> None:
        self.metrics.applies.labels(ref.kind, "failed" if error.transient else "refused").inc()
        if error.namespace_gone:
            raise NamespaceGoneError(error.message) from None
        if error.code == 404 and ref[:2] in OPTIONAL:
            log.info("%s is gone from the cluster: %s is left out", ref.kind, ref.name, extra={"about": self.about})
            return
        if error.hits_all:
            raise RetryLaterError(f"{ref.kind} {ref.name}: {error}", after=error.retry_after) from None
        reason = Reason.NAME_TAKEN if _OTHER_CONTROLLER in error.message else error.reason
        rejection = Rejection(ref, error.code, reason, error.message)
        if error.transient:
            self._note_stumble(ref, rejection, error)
            return
        known = self.memory.refused.get(ref)
        if known is None or known.rejection != rejection:
            log.warning("%s %s was refused: %s", ref.kind, ref.name, error, extra={"about": self.about})
        self.memory.refused[ref] = Refused(wanted, rejection, self.now + REFUSAL_PAUSE)
        self.rejections.append(rejection)

    def _note_stumble(self, ref: ObjectRef, rejection: Rejection, error: ApiError) -> None:
        self.retry = RetryLaterError(f"{ref.kind} {ref.name}: {error}", after=error.retry_after)
        self.memory.stumbles[ref] = self.memory.stumbles.get(ref, 0) + 1
        if self.memory.stumbles[ref] >= PATIENCE:
            self.rejections.append(rejection)

    async def _prune(self, leftover: Json) -> None:
        meta, ref = leftover["metadata"], ref_of(leftover)
        if meta.get("deletionTimestamp") or meta["uid"] in self.memory.deleted:
            return
        try:
            await self.cluster.delete(leftover)
        except ApiError as error:
            # 409: another object has this name by now; its own event brings us back.
            if error.code != 409:
                self._note_failure(ref, "", error)
            return
        self.memory.deleted[meta["uid"]] = self.now
        self.metrics.deletes.labels(ref.kind).inc()
        self.memory.applied.pop(ref, None)
        log.info("deleted %s %s", ref.kind, ref.name, extra={"about": self.about})


def managers(obj: Json) -> set[str]:
    """Name everybody who set a field of an object."""
    return {entry.get("manager", "") for entry in obj["metadata"].get("managedFields", ())}
