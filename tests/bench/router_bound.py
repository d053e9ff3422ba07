"""What a router could gain that knows the future: about as much as any router could.

Load, fleet, `PrefixAware` and what it is taught are those of `tests.policy.simulation`, but think times are drawn
beforehand, and all that changes is data, so that a moment can be copied. Whenever a request comes, `Clairvoyant` copies
the moment once for each engine, sends the request there, plays what will then truly happen, and takes the engine with
the lowest mean time to first token. It knows what no router can: who will ask when, and what each engine holds.

No strict bound: it looks one decision ahead, and leaves those after it to the ordinary policy.
"""

import heapq
import math
import pickle
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import mean
from typing import Any

from llmcache_runtime.policy import Observation, Pick, PrefixAware, RequestKey, Ticket, TierTokens
from llmcache_runtime.policy.index import PrefixIndex
from tests.policy.load import TOKEN_BYTES, Load, Talks, chain
from tests.policy.simulation import BLOCK, CHUNK, Machine, Result
from tests.policy.teacher import INTERVAL, NOTHING, Teacher, counted

HORIZON = 5.0
"""Seconds of the future that are looked at."""


@dataclass(frozen=True)
class Ask:
    """A request, what caches hold of it in blocks, in chunks, and with its answer; then a time of thought."""

    key: RequestKey
    tokens: int
    blocks: tuple[int, ...]
    chunks: tuple[int, ...]
    whole: tuple[int, ...]
    think: float


@dataclass(frozen=True)
class Script:
    """Who asks what, and what does not depend on the router: when each user begins, how long each thinks."""

    begins: list[float]
    asks: list[list[Ask]]
    machine: Machine
    answering: float


def script(load: Load, machine: Machine) -> Script:
    """Draw all that is random in a load."""
    rng = random.Random(load.seed)  # noqa: S311 (a load, repeatable)
    talks = Talks(load, rng)
    asks = [
        [
            Ask(
                turn.key,
                len(turn.text) // TOKEN_BYTES,
                tuple(chain(turn.text, BLOCK)),
                tuple(chain(turn.text, CHUNK)),
                tuple(chain(turn.whole, BLOCK)),
                rng.expovariate(1 / load.think),
            )
            for turn in talks.of(user)
        ]
        for user in range(load.users)
    ]
    begins = [rng.uniform(0, load.think * 4) for _ in asks]
    return Script(begins, asks, machine, load.answer / machine.decode)


@dataclass(eq=False)
class Sent:
    """A request that an engine has, by its place in the script."""

    user: int
    number: int
    at: float
    ticket: Ticket


@dataclass(eq=False)
class Engine:
    """An engine that prefills one request after another."""

    cache: PrefixIndex
    busy: bool = False
    queue: deque[Sent] = field(default_factory=deque)
    seen: Observation = NOTHING


@dataclass
class Moment:
    """All that changes: a policy, what it is taught, a fleet, and what will happen. Pickle copies it."""

    policy: PrefixAware
    teacher: Teacher
    engines: dict[str, Engine]
    shared: PrefixIndex
    now: float = 0.0
    events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    order: int = 0

    def at(self, delay: float, happens: Callable[..., None], *what: Any) -> None:
        """Let something happen."""
        self.order += 1
        heapq.heappush(self.events, (self.now + delay, self.order, happens, what))


class Play:
    """Plays a script from a moment on; who would ask later than `until` doesn't."""

    def __init__(self, script: Script, moment: Moment, until: float = math.inf) -> None:
        self._script, self._moment, self._until = script, moment, until
        self.result = Result()

    def run(self) -> Result:
        """Play to the end."""
        moment = self._moment
        while moment.events:
            moment.now, _, happens, what = heapq.heappop(moment.events)
            happens(self, *what)
        return self.result

    def pick(self, key: RequestKey) -> Pick:
        """Choose as the policy does."""
        pick = self._moment.policy.pick(key, self._moment.now)
        assert pick is not None
        return pick

    def send(self, user: int, number: int, pick: Pick) -> None:
        """Send a request to an engine."""
        moment, engine = self._moment, self._moment.engines[pick.engine]
        sent = Sent(user, number, moment.now, moment.policy.on_start(pick, moment.now))
        self.result.expected.append(pick.tiers)
        if engine.busy:
            engine.queue.append(sent)
        else:
            self._prefill(engine, sent)

    def teach(self) -> None:
        """Let the policy look at the engines' metrics, again and again."""
        moment = self._moment
        moment.teacher.teach({name: engine.seen for name, engine in moment.engines.items()}, [moment.policy])
        if moment.events:
            moment.at(INTERVAL, Play.teach)

    def come(self, user: int, number: int) -> None:
        """Ask."""
        if self._moment.now <= self._until:
            self.send(user, number, self._decide(user, number))

    def _decide(self, user: int, number: int) -> Pick:
        return self.pick(self._script.asks[user][number].key)

    def _prefill(self, engine: Engine, sent: Sent) -> None:
        ask, machine = self._script.asks[sent.user][sent.number], self._script.machine
        held = engine.cache.matched(ask.blocks) * BLOCK
        shared = max(0, self._moment.shared.matched(ask.chunks) * CHUNK - held)
        tiers = TierTokens(held, shared, ask.tokens - held - shared)
        engine.busy = True
        self._moment.at(shared / machine.reload + tiers.compute / machine.prefill, Play._first, engine, sent, tiers)

    def _first(self, engine: Engine, sent: Sent, tiers: TierTokens) -> None:
        ask, moment = self._script.asks[sent.user][sent.number], self._moment
        engine.cache.touch(ask.blocks)
        moment.shared.touch(ask.chunks)
        wait = moment.now - sent.at
        self.result.served.append(tiers)
        self.result.waits.append(wait)
        engine.seen = counted(engine.seen, tiers, wait)
        moment.policy.on_first_token(sent.ticket, moment.now)
        engine.busy = False
        if engine.queue:
            self._prefill(engine, engine.queue.popleft())
        moment.at(self._script.answering, Play._end, engine, sent)

    def _end(self, engine: Engine, sent: Sent) -> None:
        asks = self._script.asks[sent.user]
        self._moment.policy.on_end(sent.ticket, self._moment.now)
        engine.cache.touch(asks[sent.number].whole)
        if sent.number + 1 < len(asks):
            self._moment.at(asks[sent.number].think, Play.come, sent.user, sent.number + 1)


class Clairvoyant(Play):
    """Decides by what will happen; where that is all the same, as the policy does."""

    def _decide(self, user: int, number: int) -> Pick:
        key, moment = self._script.asks[user][number].key, self._moment
        now = pickle.dumps(moment)
        usual = self.pick(key)
        picks = [usual]
        for other in sorted(moment.engines.keys() - {usual.engine}):
            pick = moment.policy.pick(key, moment.now, moment.engines.keys() - {other})
            assert pick is not None
            picks.append(pick)
        return min(picks, key=partial(self._wait, user, number, now))

    def _wait(self, user: int, number: int, now: bytes, pick: Pick) -> float:
        future = Play(self._script, pickle.loads(now), self._moment.now + HORIZON)  # noqa: S301 (our own, just made)
        future.send(user, number, pick)
        return mean(future.run().waits)


def begin(make: Callable[[], PrefixAware], load: Load, machine: Machine, *, price: bool) -> tuple[Script, Moment]:
    """Set a fleet up, and users who are about to ask."""
    policy, written = make(), script(load, machine)
    engines = {f"engine-{i}": Engine(PrefixIndex(machine.cache // BLOCK)) for i in range(machine.engines)}
    moment = Moment(policy, Teacher(machine.cache, price=price), engines, PrefixIndex(machine.shared // CHUNK))
    for name in engines:
        policy.add(name, 0.0)
    for user, delay in enumerate(written.begins):
        moment.at(delay, Play.come, user, 0)
    Play(written, moment).teach()
    return written, moment


def ordinary(make: Callable[[], PrefixAware], load: Load, machine: Machine, *, price: bool = True) -> Result:
    """Play a load with a policy as it is."""
    return Play(*begin(make, load, machine, price=price)).run()


def clairvoyant(make: Callable[[], PrefixAware], load: Load, machine: Machine, *, price: bool = True) -> Result:
    """Play a load with a router that knows the future, and what the policy would make of it."""
    return Clairvoyant(*begin(make, load, machine, price=price)).run()
