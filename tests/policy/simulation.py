"""A fleet in virtual time: what a policy makes of a load, in hit ratio and time to first token, without a socket.

Engines prefill one request at a time and hold an LRU of 16-token blocks; a shared tier, if any, holds 256-token
chunks. Users talk in rounds: each question follows the answer to the one before, so a faster fleet is asked more.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from statistics import mean
from typing import Protocol, runtime_checkable

from msgspec.structs import replace

from llmcache_runtime.policy import Fleet, Observation, TierTokens
from tests.policy.load import TOKEN_BYTES, Load, Talks, Turn, chain
from tests.policy.teacher import INTERVAL, NOTHING, Teacher, counted

BLOCK = 16
CHUNK = 256


@dataclass(frozen=True)
class Machine:
    """What an engine is: sizes in tokens, speeds in tokens a second.

    beside: reloads go on beside prefills, one after another, as with LMCache's `lmcache_driven` transfers: vLLM's
    scheduler parks the request (WAITING_FOR_REMOTE_KVS) and prefills others. Without it a reload holds prefills up, as
    with `engine_driven` ones, whose worker copies KV in the engine's step (lmcache 0.5.6,
    `multiprocess/transfer_context/worker_transfer.py`, `submit_retrieve`).
    """

    engines: int = 4
    cache: int = 60_000
    shared: int = 0
    prefill: float = 8000.0
    reload: float = 24000.0
    decode: float = 50.0
    beside: bool = False


@dataclass
class Result:
    """What came out. Tokens by tier, as they were served and as they were expected; seconds."""

    served: list[TierTokens] = field(default_factory=list)
    expected: list[TierTokens] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    busy: float = 0.0
    lasted: float = 0.0

    def percent(self, tier: str) -> float:
        """Give the share of all prompt tokens that came from a tier."""
        total = sum(sum(tokens) for tokens in self.served)
        index = TierTokens._fields.index(tier)
        return 100 * sum(tokens[index] for tokens in self.served) / total

    @property
    def ttft(self) -> float:
        """Give the mean time to first token, in seconds."""
        return mean(self.waits)


class Lru:
    """A bounded set of chained hashes."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.items: dict[int, None] = {}

    def matched(self, chain: list[int]) -> int:
        return next((i for i, item in enumerate(chain) if item not in self.items), len(chain))

    def touch(self, chain: list[int]) -> None:
        for item in reversed(chain):
            self.items.pop(item, None)
            self.items[item] = None
        excess = len(self.items) - self.capacity
        for item in list(itertools.islice(self.items, max(0, excess))):
            del self.items[item]


@dataclass
class SimulatedEngine:
    cache: Lru
    busy: bool = False
    loaded_at: float = 0.0
    queue: deque[Callable[[], None]] = field(default_factory=deque)
    seen: Observation = NOTHING

    def submit(self, job: Callable[[], None], *, first: bool = False) -> None:
        """Do a job that takes the engine's time, now or in its turn."""
        if not self.busy:
            job()
        elif first:
            self.queue.appendleft(job)
        else:
            self.queue.append(job)

    def next(self) -> None:
        """Take the next job, if there is one."""
        if self.queue:
            self.queue.popleft()()

    def load(self, seconds: float, now: float) -> float:
        """Load from the shared tier, after what is being loaded; tell in how many seconds that will be done."""
        self.loaded_at = max(self.loaded_at, now) + seconds
        return self.loaded_at - now


@runtime_checkable
class SeesEvents(Protocol):
    """A policy that is told, before a pick, how many tokens of the prompt each engine holds."""

    def observe(self, held: dict[str, int]) -> None: ...


@runtime_checkable
class ReadsBlocks(Protocol):
    """A policy that cuts prompts otherwise than our own key does: into blocks of so many tokens."""

    block_tokens: int


class Simulation:
    """Runs a load over a fleet. `make` makes one policy for each router replica; requests go to a random one.

    A `PrefixAware` policy is taught every ten seconds what a router reads in the engines' metrics; with `price` off it
    goes on to think that the shared tier is as dear as computing.
    """

    def __init__(
        self, make: Callable[[], Fleet], load: Load, machine: Machine, replicas: int = 1, *, price: bool = True
    ) -> None:
        self._load, self._machine = load, machine
        self._rng = random.Random(load.seed)  # noqa: S311 (a load, repeatable)
        self._replicas = [make() for _ in range(replicas)]
        self._engines = {f"engine-{i}": SimulatedEngine(Lru(machine.cache // BLOCK)) for i in range(machine.engines)}
        self._shared = Lru(machine.shared // CHUNK)
        self._teacher = Teacher(machine.cache, price=price and machine.shared > 0)
        self._talking = load.users
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self.result = Result()
        for policy in self._replicas:
            for name in self._engines:
                policy.add(name, 0.0)

    def run(self) -> Result:
        """Play the load to its end."""
        talks = Talks(self._load, self._rng)
        self._teach()
        for user in range(self._load.users):
            self._at(self._rng.uniform(0, self._load.think * 4), partial(self._advance, talks.of(user)))
        while self._events:
            self._now, _, event = heapq.heappop(self._events)
            event()
        self.result.lasted = self._now
        return self.result

    def _at(self, delay: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + delay, next(self._order), event))

    def _teach(self) -> None:
        self._teacher.teach({name: engine.seen for name, engine in self._engines.items()}, self._replicas)
        if self._talking:
            self._at(INTERVAL, self._teach)

    def _advance(self, talk: Iterator[Turn]) -> None:
        turn = next(talk, None)
        if turn is None:
            self._talking -= 1
        else:
            self._send(turn, partial(self._advance, talk))

    def _send(self, turn: Turn, then: Callable[[], None]) -> None:
        policy = self._rng.choice(self._replicas)
        blocks, chunks = chain(turn.text, BLOCK), chain(turn.text, CHUNK)
        if isinstance(policy, SeesEvents):
            policy.observe({name: e.cache.matched(blocks) * BLOCK for name, e in self._engines.items()})
        key = turn.key
        if isinstance(policy, ReadsBlocks):
            key = replace(key, chunks=tuple(chain(turn.text, policy.block_tokens)))
        pick = policy.pick(key, self._now)
        assert pick is not None
        ticket = policy.on_start(pick, self._now)
        engine = self._engines[pick.engine]
        asked = self._now
        machine, load = self._machine, self._load

        def prefill() -> None:
            tiers = self._find(engine, blocks, chunks, len(turn.text) // TOKEN_BYTES)
            self.result.served.append(tiers)
            self.result.expected.append(pick.tiers)
            loading = tiers.shared / machine.reload
            if machine.beside and loading:
                self._at(
                    engine.load(loading, self._now), partial(engine.submit, partial(compute, tiers, 0.0), first=True)
                )
                engine.next()
            else:
                compute(tiers, loading)

        def compute(tiers: TierTokens, loading: float) -> None:
            engine.busy = True
            work = loading + tiers.compute / machine.prefill
            self.result.busy += work
            self._at(work, partial(first, tiers))

        def first(tiers: TierTokens) -> None:
            engine.cache.touch(blocks)
            self._shared.touch(chunks)
            self.result.waits.append(self._now - asked)
            engine.seen = counted(engine.seen, tiers, self._now - asked)
            policy.on_first_token(ticket, self._now)
            engine.busy = False
            engine.next()
            self._at(load.answer / machine.decode, end)

        def end() -> None:
            policy.on_end(ticket, self._now)
            engine.cache.touch(chain(turn.whole, BLOCK))
            self._at(self._rng.expovariate(1 / load.think), then)

        engine.submit(prefill)

    def _find(self, engine: SimulatedEngine, blocks: list[int], chunks: list[int], tokens: int) -> TierTokens:
        held = engine.cache.matched(blocks) * BLOCK
        shared = max(0, self._shared.matched(chunks) * CHUNK - held)
        return TierTokens(held, shared, tokens - held - shared)
