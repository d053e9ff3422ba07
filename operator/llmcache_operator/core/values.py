"""The values that flow through the operator: observe → plan → apply → measure → status.

Every type here is immutable and free of behaviour that waits. Kubernetes objects are plain JSON
(`Json`), trimmed by the edge of what nobody reads (managedFields).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from llmcache_operator.core.counts import NOTHING_STORED, CacheCounts, EngineCounts, L2Stores

if TYPE_CHECKING:
    from llmcache_operator.api.conditions import Reason

Json = dict[str, Any]
VALKEY_IMAGE = "docker.io/valkey/valkey:8.1.4"
Kind = tuple[str, str]
"""apiVersion and kind."""


class ServiceKey(NamedTuple):
    """Where one LLMCacheService lives."""

    namespace: str
    name: str


class ObjectRef(NamedTuple):
    """One object in the namespace of its LLMCacheService."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """What the API server answered when it would not take a child.

    `code` is the HTTP status; `reason` and `message` are those of its `Status` object.
    """

    ref: ObjectRef
    code: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """A warning Event about a pod that has no containers yet, last seen at `at`, in seconds since the epoch."""

    pod_uid: str
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything known about one LLMCacheService at one moment.

    `resource` is the custom resource itself; `children` are the objects that carry its UID as
    controller owner; `pods` are the pods that carry its labels, children of children; `complaints` are
    about those of them that don't start, the latest first.
    """

    resource: Json
    children: tuple[Json, ...] = ()
    pods: tuple[Json, ...] = ()
    complaints: tuple[Complaint, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What the cluster should hold: objects to apply, in order, and objects to delete.

    `secrets` are to be there, with any content: whoever creates one makes up a value for each empty key, and nobody
    ever reads or changes it again.
    """

    apply: tuple[Json, ...]
    prune: tuple[Json, ...]
    secrets: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineSample:
    """One scrape of one engine pod. Counters are vLLM's own, since the engine started; those it lacks are 0.

    `model_path` is the `root` that the engine reports at /v1/models: it carries the cache identity
    and the fingerprint of the weights that are really loaded. `None` where it was not asked or known.
    `started_at` is when the counters began (their `_created` series), in seconds since the epoch.
    Tokens: `computed`, `engine_hits` and `server_hits` say where prompt tokens came from; vLLM counts `prompt_tokens`,
    `own_found` and `server_found` a second time. Requests: `served` got their first token, after `busy` seconds in
    all; `ended` are over: `prefilled` tokens were computed for them in `prefilling` seconds, not counting what they
    waited, and `short` of them were certainly shorter than a chunk; `lookups` asked LMCache's connector, None without
    one; `queued` wait for room now. Our connector moved `loaded` tokens from the server, in `loading` seconds in which
    there was anything to move. `block_size` and `cache_dtype` are of its own cache.
    """

    pod: str
    pod_uid: str
    at: float
    computed: int
    engine_hits: int
    server_hits: int
    running: int = 0
    waiting: int = 0
    started_at: float | None = None
    model_path: str | None = None
    served: int = 0
    busy: float = 0.0
    ended: int = 0
    short: int = 0
    lookups: int | None = None
    prompt_tokens: int = 0
    own_found: int = 0
    server_found: int = 0
    prefilled: int = 0
    prefilling: float = 0.0
    loaded: int = 0
    loading: float = 0.0
    queued: int = 0
    block_size: str | None = None
    cache_dtype: str | None = None
    version: str | None = None

    @property
    def counts(self) -> EngineCounts:
        """All that only grows."""
        return EngineCounts(
            self.computed, self.engine_hits, self.server_hits, self.served, self.busy,
            self.ended, self.short, self.lookups or 0, self.prompt_tokens, self.own_found, self.server_found,
            self.prefilled, self.prefilling, self.loaded, self.loading,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CacheSample:
    """One scrape of one LMCache server. Sizes in bytes; `usage_ratio` is 0.0 to 1.0 of its L1.

    Counters since it started: chunks that were evicted and written; look-ups, and those of them from engines that
    it does not know; tokens asked for in whole chunks, and found (also those that the engine then finds in its own
    memory); events that its metrics lost; chunks that stayed in the L2 for want of room; what it stored in its `l2`.
    From /status, None where it was not told: `objects` held, `chunk_size` in tokens, `registered` engines.
    """

    at: float
    usage_ratio: float
    used_bytes: int
    evicted_chunks: int
    started_at: float | None = None
    written_chunks: int = 0
    lookups: int = 0
    unknown_lookups: int = 0
    asked: int = 0
    found: int = 0
    lost_events: int = 0
    no_room: int = 0
    l2: L2Stores = NOTHING_STORED
    objects: int | None = None
    chunk_size: int | None = None
    registered: float | None = None
    version: str | None = None

    @property
    def counts(self) -> CacheCounts:
        """All that only grows."""
        return CacheCounts(
            self.evicted_chunks, self.written_chunks, self.lookups, self.unknown_lookups,
            self.asked, self.found, self.lost_events, self.no_room,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class L2Sample:
    """What the guard beside one LMCache server says of the store behind it, in its own words."""

    at: float
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class ScrapeFailure:
    """Why one pod could not be measured, in words that a person can act on."""

    pod: str
    at: float
    why: str


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What the latest self-test of a service found.

    `reason` is VERIFIED, NOTHING_SHARED, WRONG_KV, PROBE_FAILED or SATURATED, and `message` says it to people. `fleet`
    names the pods that it was about: with others, the result says nothing. `failures` counts the tests in a row
    that did not verify; `complete` is False where some engines were too busy to be asked.
    """

    at: float
    fleet: str
    reason: Reason
    message: str
    failures: int = 0
    complete: bool = True


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A self-test that is due: which pods take part, in the order of the ring, and what to ask of them.

    A prompt has `chunk` fresh tokens and `tail` that repeat some of them. `left_out` engines are too busy to be asked,
    and so is one that runs `busy` requests by then. `last` is the latest result about the same fleet, `failures` how
    many tests have failed in a row.
    """

    key: ServiceKey
    uid: str
    model: str
    fleet: str
    engines: tuple[Json, ...]
    servers: tuple[Json, ...]
    chunk: int
    tail: int
    busy: int
    left_out: int = 0
    failures: int = 0
    last: SelfTestResult | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause of trouble: which component it stops (None: the service as a whole), its reason, what to tell people.

    `rejected` says that the API server would not take a child, so that what runs is not what the spec asks for.
    """

    component: str | None
    reason: Reason
    message: str
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition that changed and deserves an Event: `kind` is Normal or Warning."""

    kind: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconcile ends with: the status, Events to post, when to look again, and a self-test if one is due."""

    status: Json
    transitions: tuple[Transition, ...] = ()
    requeue_after: float | None = None
    self_test: SelfTest | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What whoever installs the operator decides. The edge reads it from flags and environment.

    `operator_namespace` and `operator_labels` name the pods that may scrape through the
    NetworkPolicies; `scraper_namespace` those of a Prometheus, when there is one.
    `pod_monitors` are made where the cluster has the kind, with `pod_monitor_labels`, which a Prometheus may select by.
    `optional_kinds` are not decided but found: those of other people's CRDs that this cluster has.
    Times are in seconds.
    """

    engine_image: str
    cache_server_image: str
    router_image: str
    valkey_image: str = VALKEY_IMAGE
    operator_namespace: str = "llmcache-system"
    operator_labels: tuple[tuple[str, str], ...] = (("app.kubernetes.io/name", "llmcache-operator"),)
    scraper_namespace: str | None = None
    image_pull_policy: str = "IfNotPresent"
    window: int = 300
    scrape_interval: int = 15
    measure_write_interval: int = 60
    self_test_interval: int = 21600
    pod_monitors: bool = True
    pod_monitor_labels: tuple[tuple[str, str], ...] = ()
    optional_kinds: frozenset[Kind] = frozenset()
