"""The engines and their load: what all policies share."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from llmcache_runtime.policy.interface import Pick, RequestKey, Ticket

PREFILL_RATE = 8000.0
"""Tokens per second, until measured: an 8B model on one modern GPU."""

SLOW_START = 10.0
"""Seconds in which a cold engine's share of the load rises from nothing to an equal one."""


@dataclass(slots=True)
class Engine:
    """One engine as a policy sees it.

    token: its name as bytes, for hashing; queued: prefill work in priced tokens; since: when the first of it began;
    prefill_rate: tokens a second.
    """

    name: str
    token: bytes
    added_at: float = float("-inf")
    draining: bool = False
    removed: bool = False
    running: int = 0
    queued: float = 0.0
    since: float = float("-inf")
    prefill_rate: float = PREFILL_RATE
    unseen: deque[tuple[float, Ticket]] = field(default_factory=deque)

    def settle(self, now: float) -> None:
        """Take prefills off the queue whose end nobody sees, once they should be over.

        A request that doesn't stream shows no first token; without this its prompt would count as queued to its end.
        """
        while self.unseen and self.unseen[0][0] <= now:
            self.prefilled(self.unseen.popleft()[1], now)

    def queue(self, cost: float, now: float) -> None:
        """Put a request's prompt on the queue."""
        if self.queued < 1:  # what is left of a token is the rounding of sums
            self.since = now
        self.queued += cost

    def prefilled(self, ticket: Ticket, now: float) -> None:
        """Take a request's prompt off the queue, once."""
        if ticket.queued:
            ticket.queued = False
            self.queued -= ticket.pick.cost
            self.since = now

    def ahead(self, now: float) -> float:
        """Estimate what of the queue is still to do: the prompt at work shrinks while it is computed."""
        return max(0.0, self.queued - (now - self.since) * self.prefill_rate) if self.queued >= 1 else 0.0


class Fleet(ABC):
    """Engine lifecycle and load accounting. A policy adds `_choose`, and hooks for what it remembers."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}
        self._all_warm_at = float("-inf")

    @property
    def engines(self) -> Sequence[Engine]:
        """The engines known, those included that only finish their last requests."""
        return tuple(self._engines.values())

    def pick(self, key: RequestKey, now: float, exclude: AbstractSet[str] = frozenset()) -> Pick | None:
        """See `Policy.pick`."""
        present = [e for e in self._engines.values() if not e.removed and e.name not in exclude]
        candidates = [e for e in present if not e.draining] or present
        if not candidates:
            return None
        for engine in candidates:
            if engine.unseen:
                engine.settle(now)
        return self._choose(key, self._warm(candidates, now), now)

    def on_start(self, pick: Pick, now: float) -> Ticket:
        """See `Policy.on_start`."""
        ticket = Ticket(pick)
        engine = self._engines.get(pick.engine)
        if engine is None:
            ticket.queued = ticket.running = False
            return ticket
        engine.running += 1
        engine.queue(pick.cost, now)
        if not pick.key.streams:
            engine.unseen.append((now + engine.queued / engine.prefill_rate, ticket))
        self._started(pick, now)
        return ticket

    def on_first_token(self, ticket: Ticket, now: float) -> None:
        """See `Policy.on_first_token`."""
        engine = self._engines.get(ticket.pick.engine)
        if engine is not None and ticket.running:
            engine.prefilled(ticket, now)
            self._prefilled(ticket.pick)

    def on_end(self, ticket: Ticket, now: float) -> None:
        """See `Policy.on_end`."""
        engine = self._engines.get(ticket.pick.engine)
        if engine is None or not ticket.running:
            return
        ticket.running = False
        engine.running -= 1
        engine.prefilled(ticket, now)
        if engine.removed and engine.running == 0:
            del self._engines[engine.name]

    def add(self, engine: str, now: float, *, cold: bool = False) -> None:
        """See `Policy.add`."""
        known = self._engines.get(engine)
        if known is None:
            known = Engine(engine, engine.encode())
            # In order of name, whatever the order in which a replica heard of them: the first of equals is picked.
            self._engines = dict(sorted({**self._engines, engine: known}.items()))
        if cold:
            known.added_at = now
            self._all_warm_at = now + SLOW_START
        known.draining = known.removed = False

    def remove(self, engine: str) -> None:
        """See `Policy.remove`. The record stays until its last request ends, so that counts stay true."""
        known = self._engines.get(engine)
        if known is None:
            return
        self._forget(engine)
        known.removed = True
        if known.running == 0:
            del self._engines[engine]

    def restart(self, engine: str) -> None:
        """See `Policy.restart`."""
        self._forget(engine)

    def drain(self, engine: str) -> None:
        """See `Policy.drain`."""
        if engine in self._engines:
            self._engines[engine].draining = True

    def set_prefill_rate(self, engine: str, tokens_per_second: float) -> None:
        """Tell what was measured of an engine's prefill."""
        if engine in self._engines:
            self._engines[engine].prefill_rate = tokens_per_second

    def _warm(self, candidates: list[Engine], now: float) -> list[Engine]:
        """Leave out cold engines that already have their share, if others are there."""
        if now >= self._all_warm_at:
            return candidates
        mean = sum(e.running for e in candidates) / len(candidates)
        return [e for e in candidates if e.running <= mean * (now - e.added_at) / SLOW_START] or candidates

    @abstractmethod
    def _choose(self, key: RequestKey, candidates: Sequence[Engine], now: float) -> Pick:
        """Choose among at least one engine."""

    def _started(self, pick: Pick, now: float) -> None:
        """Remember that the engine was sent this prompt."""
        del pick, now  # by default a policy remembers nothing

    def _prefilled(self, pick: Pick) -> None:
        """Remember that the engine has computed this prompt."""
        del pick

    def _forget(self, engine: str) -> None:
        """Drop what is remembered of an engine's cache."""
        del engine
