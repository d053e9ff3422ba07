"""The engines the router knows: where they are, whether they take requests, what the policy is told of them."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llmcache_runtime.policy import Policy
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.upstream import EngineError, Pool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where discovery says an engine is.

    id: changes when the engine does (a pod's UID); name: for people and metrics.
    serving: it answers requests; draining: it takes new ones only if no other does.
    """

    id: str
    name: str
    host: str
    port: int
    serving: bool = True
    draining: bool = False


class Active(Protocol):
    """A request that an engine works on; a status of 0 means that nothing of its response has come yet."""

    status: int

    def fail(self, error: EngineError) -> None:
        """End it with an error."""


@dataclass(slots=True, eq=False)
class Engine:
    """An engine with its connections and its record of failures. Times are the loop's.

    An engine that is ejected comes back when its probes have succeeded since `alive_since` for `trial` seconds.
    """

    endpoint: Endpoint
    pool: Pool
    active: set[Active] = field(default_factory=set)
    ejected: bool = False
    ejections: int = 0
    trial: float = 0.0
    alive_since: float | None = None
    answered: float = float("-inf")
    failures: float = 0.0
    failed_probes: int = 0
    was_refused: bool = False
    next_probe: float = 0.0
    next_report: float = 0.0
    steady_since: float = 0.0
    last_error: str = ""

    @property
    def id(self) -> str:
        """The endpoint's id, which is also the policy's name for it."""
        return self.endpoint.id

    @property
    def name(self) -> str:
        """The endpoint's name, for people and metrics."""
        return self.endpoint.name

    @property
    def available(self) -> bool:
        """Whether it takes new requests."""
        return self.endpoint.serving and not self.ejected

    def fail_active(self, reason: str, *, waiting_only: bool) -> None:
        """End its exchanges; those that wait for a first byte go to another engine."""
        for exchange in tuple(self.active):
            if exchange.status == 0 or not waiting_only:
                exchange.fail(EngineError(reason))


class Engines:
    """Keeps the policy, the pools and the metrics in step with what discovery says."""

    def __init__(self, policy: Policy, metrics: Metrics, connect_timeout: float) -> None:
        self._policy = policy
        self._metrics = metrics
        self._connect_timeout = connect_timeout
        self._engines: dict[str, Engine] = {}
        self._loop = asyncio.get_running_loop()
        self.synced = False
        self.shunned: Sequence[frozenset[str]] = (frozenset(),)
        self.unreachable: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Engine]:
        return iter(tuple(self._engines.values()))

    def __contains__(self, engine: str) -> bool:
        return engine in self._engines

    def __len__(self) -> int:
        return len(self._engines)

    def __getitem__(self, engine: str) -> Engine:
        return self._engines[engine]

    def apply(self, endpoints: Iterable[Endpoint]) -> None:
        """Take the endpoints that there are now. Requests that run on one that has left go on."""
        wanted = {endpoint.id: endpoint for endpoint in endpoints}
        for gone in self._engines.keys() - wanted.keys():
            engine = self._engines.pop(gone)
            engine.pool.close()
            self._policy.remove(gone)
            self._metrics.forget_engine(engine.name)
        for endpoint in wanted.values():
            self._apply_one(endpoint)
        self.synced = True
        self.changed()

    def _apply_one(self, endpoint: Endpoint) -> None:
        known = self._engines.get(endpoint.id)
        if known is None:
            pool = Pool(endpoint.host, endpoint.port, self._connect_timeout)
            self._engines[endpoint.id] = Engine(endpoint, pool)
            self._policy.add(endpoint.id, self._loop.time(), cold=self.synced)
        elif known.endpoint != endpoint:
            if (known.endpoint.host, known.endpoint.port) != (endpoint.host, endpoint.port):
                known.pool.close()
                known.pool = Pool(endpoint.host, endpoint.port, self._connect_timeout)
            known.endpoint = endpoint
            known.next_report = 0.0
            self._policy.add(endpoint.id, self._loop.time())
        if endpoint.draining:
            self._policy.drain(endpoint.id)

    def changed(self) -> None:
        """Recompute who takes requests.

        `unreachable` never do. `shunned` names whom to leave out, at first and then, as long as nobody is left: with
        every engine out, those that answer probes again are the best there are, and after them any that may be back.
        """
        engines = self._engines.values()
        self.unreachable = frozenset(e.id for e in engines if not e.endpoint.serving)
        ejected = frozenset(e.id for e in engines if e.ejected) | self.unreachable
        dead = frozenset(e.id for e in engines if e.ejected and e.alive_since is None) | self.unreachable
        self.shunned = tuple(dict.fromkeys((ejected, dead, self.unreachable)))
        for engine in engines:
            self._metrics.available.labels(engine.name).set(engine.available)
