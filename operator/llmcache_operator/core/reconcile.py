"""One reconcile, without its I/O: what the children should be, and after they were written what to say about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from llmcache_operator.api.service import PAUSED_ANNOTATION, LLMCacheService
from llmcache_operator.core import children
from llmcache_operator.core.content import ref_key
from llmcache_operator.core.sizing import problem
from llmcache_operator.core.target import MANAGED_BY, Component, Target
from llmcache_operator.core.usage import in_use
from llmcache_operator.core.values import Json, Observed, Plan, ServiceKey, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one service. `target` is None where the spec can't be read; `error` then says why."""

    plan: Plan
    settings: Settings
    target: Target | None = None
    error: str | None = None
    paused: bool = False


NOTHING = Plan((), ())


def decide(observed: Observed, settings: Settings) -> Decision:
    """Return what the children should be. An invalid spec or a pause changes nothing."""
    metadata = observed.resource["metadata"]
    try:
        # Not the status: one that another version of the operator wrote must not make the spec unreadable.
        service = LLMCacheService.model_validate({"spec": observed.resource.get("spec")})
    except ValidationError as error:
        return Decision(NOTHING, settings, error=_explained(error))
    if unfit := problem(service.spec):
        return Decision(NOTHING, settings, error=unfit)
    key = ServiceKey(metadata["namespace"], metadata["name"])
    target = Target(key, metadata["uid"], service.spec, settings)
    if metadata.get("annotations", {}).get(PAUSED_ANNOTATION) == "true":
        return Decision(NOTHING, settings, target, paused=True)
    return Decision(_plan(observed, target), settings, target)


def _plan(observed: Observed, target: Target) -> Plan:
    wanted = children.build(target, child(observed.children, "Deployment", target.name(Component.ENGINE)))
    keep = {ref_key(obj) for obj in wanted}
    prune = tuple(obj for obj in observed.children if _superfluous(obj, keep) and not in_use(obj, observed.pods))
    return Plan(apply=wanted, prune=prune, secrets=children.secrets(target))


def _superfluous(obj: Json, keep: set[tuple[str, str, str]]) -> bool:
    """Whether an owned object of ours is wanted no longer. Objects that others hung on the service are theirs."""
    ours = obj["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == MANAGED_BY
    return ours and "deletionTimestamp" not in obj["metadata"] and ref_key(obj) not in keep


def child(objects: Sequence[Json], kind: str, name: str) -> Json | None:
    """Return one child by kind and name."""
    return next((obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] == name), None)


def _explained(error: ValidationError) -> str:
    """Return a validation error as sentences that name the field and what was found there."""
    parts = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        parts.append(f"{where}: {fault['msg']} (found {fault['input']!r})"[:500])
    return "; ".join(parts[:5])
