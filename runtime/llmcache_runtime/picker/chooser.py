"""Chooses engines for a request, and keeps the policy's books while a gateway sends it there."""

import time
from dataclasses import dataclass

from msgspec.structs import replace

from llmcache_runtime.policy import Pick, RequestKey, Ticket, request_key
from llmcache_runtime.router.engines import Engine
from llmcache_runtime.router.knowledge import Knowledge
from llmcache_runtime.router.metrics import Latencies
from llmcache_runtime.router.upstream import EngineError

FAILOVER = 2
"""Endpoints after the first that a gateway may try."""


@dataclass(slots=True, eq=False)
class Choice:
    """A request that a gateway sends to an engine, and to the next in `endpoints` if it must."""

    engine: Engine
    ticket: Ticket
    endpoints: bytes
    latencies: Latencies | None
    status: int = 0

    def fail(self, error: EngineError) -> None:
        """Do nothing: the connection is the gateway's, and so is what becomes of it."""


class Chooser:
    """Drives the policy for requests whose bytes it never sees but once."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._policy = knowledge.policy
        self._engines = knowledge.engines
        self._health = knowledge.health
        self._admission = knowledge.admission
        self._metrics = knowledge.metrics

    async def choose(
        self, body: bytes, session: bytes | None, subset: frozenset[bytes] | None, *, sees_body: bool
    ) -> Choice:
        """Choose among all engines or those of a subset (ip:port), and count the request. Raises RouterError.

        `sees_body` says that the first token will be told; else its time is estimated, as for answers in one piece.
        """
        key = request_key(body, session)
        if not sees_body:
            key = replace(key, streams=False)
        barred = frozenset(e.id for e in self._engines if subset is not None and e.pool.authority not in subset)
        pick = await self._admission.pick(key, barred)
        endpoints = b",".join(self._engines[name].pool.authority for name in self._order(pick, barred))
        return self._start(pick, endpoints)

    def _order(self, first: Pick, barred: frozenset[str]) -> list[str]:
        """Return the engine picked and those that the policy would pick without it, healthy ones only."""
        order = [first.engine]
        barred |= self._engines.shunned[0]
        now = time.monotonic()
        while len(order) <= FAILOVER:
            following = self._policy.pick(first.key, now, barred | set(order))
            if following is None:
                break
            order.append(following.engine)
        return order

    def _start(self, pick: Pick, endpoints: bytes) -> Choice:
        engine = self._engines[pick.engine]
        ticket = self._policy.on_start(pick, time.monotonic())
        choice = Choice(engine, ticket, endpoints, self._metrics.latencies(engine.name, pick))
        engine.active.add(choice)
        self._metrics.engine_requests.add((engine.name,))
        return choice

    def served_by(self, choice: Choice, address: bytes) -> Choice:
        """Move a request to the engine at `address` (ip:port), which answered in place of the one chosen."""
        if address == choice.engine.pool.authority:
            return choice
        served = next((e for e in self._engines if e.pool.authority == address), None)
        pick = self._only(served, choice.ticket.pick.key) if served else None
        if pick is None:
            return choice
        self._metrics.retries.add(("gateway",))
        self._health.suspect(choice.engine)
        self.ended(choice)
        return self._start(pick, choice.endpoints)

    def _only(self, engine: Engine, key: RequestKey) -> Pick | None:
        others = frozenset(e.id for e in self._engines if e is not engine)
        return self._policy.pick(key, time.monotonic(), others)

    def answered(self, choice: Choice, status: int) -> None:
        """Take note of the status of a response."""
        choice.status = status
        if status < 500:
            self._health.succeeded(choice.engine)

    def first_token(self, choice: Choice) -> None:
        """Take note that the prompt has been computed."""
        self._policy.on_first_token(choice.ticket, time.monotonic())

    def ended(self, choice: Choice) -> None:
        """Take note that a request is over, in whatever way."""
        choice.engine.active.discard(choice)
        self._policy.on_end(choice.ticket, time.monotonic())
        self._admission.released()
