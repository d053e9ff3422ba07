"""A fleet in virtual time: what a policy makes of a load, in hit ratio and time to first token, without a socket.

Engines prefill one request at a time and hold an LRU of 16-token blocks; a shared tier, if any, holds 256-token
chunks. A token is four bytes. Users talk in rounds: each question follows the answer to the one before, so a faster
fleet is asked more.
"""

import heapq
import itertools
import json
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from xxhash import xxh3_64_intdigest

from llmcache_runtime.policy import Fleet, RequestKey, TierTokens, request_key

TOKEN_BYTES = 4
BLOCK = 16
CHUNK = 256


@dataclass(frozen=True)
class Load:
    """A load: users who each hold several conversations one after another. Sizes in tokens, times in seconds."""

    users: int = 48
    conversations: int = 3
    rounds: int = 6
    system: int = 1000
    history: int = 2000
    question: int = 60
    answer: int = 100
    think: float = 4.0
    seed: int = 1


@dataclass(frozen=True)
class Machine:
    """What an engine is: sizes in tokens, speeds in tokens a second."""

    engines: int = 4
    cache: int = 100_000
    shared: int = 0
    prefill: float = 8000.0
    reload: float = 24000.0
    decode: float = 50.0


@dataclass
class Result:
    """What came out. Tokens by tier, as they were served and as they were expected."""

    served: list[TierTokens] = field(default_factory=list)
    expected: list[TierTokens] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def percent(self, tier: str) -> float:
        """Give the share of all prompt tokens that came from a tier."""
        total = sum(sum(tokens) for tokens in self.served)
        index = TierTokens._fields.index(tier)
        return 100 * sum(tokens[index] for tokens in self.served) / total

    @property
    def ttft(self) -> float:
        """Give the mean time to first token, in seconds."""
        return sum(self.waits) / len(self.waits)


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


def chain(text: bytes, tokens: int) -> list[int]:
    size, state, result = tokens * TOKEN_BYTES, 0, []
    for start in range(0, len(text) - size + 1, size):
        state = xxh3_64_intdigest(text[start : start + size], state)
        result.append(state)
    return result


@dataclass
class SimulatedEngine:
    cache: Lru
    busy: bool = False
    queue: deque[Callable[[], None]] = field(default_factory=deque)


class Simulation:
    """Runs a load over a fleet. `make` makes one policy for each router replica; requests go to a random one."""

    def __init__(self, make: Callable[[], Fleet], load: Load, machine: Machine, replicas: int = 1) -> None:
        self._load, self._machine = load, machine
        self._rng = random.Random(load.seed)  # noqa: S311 (a load, repeatable)
        self._replicas = [make() for _ in range(replicas)]
        self._engines = {f"engine-{i}": SimulatedEngine(Lru(machine.cache // BLOCK)) for i in range(machine.engines)}
        self._shared = Lru(machine.shared // CHUNK)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self.result = Result()
        for policy in self._replicas:
            for name in self._engines:
                policy.add(name, 0.0)

    def run(self) -> Result:
        """Play the load to its end."""
        system = self._words(self._load.system)
        for _ in range(self._load.users):
            talk = self._talk(system)
            self._at(self._rng.uniform(0, self._load.think * 4), partial(self._advance, talk))
        while self._events:
            self._now, _, event = heapq.heappop(self._events)
            event()
        return self.result

    def _at(self, delay: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + delay, next(self._order), event))

    def _words(self, tokens: int) -> str:
        return "".join(f"{self._rng.randrange(1000):03d} " for _ in range(tokens))

    def _talk(self, system: str) -> Iterator[tuple[list[dict[str, str]], str]]:
        load = self._load
        for _ in range(load.conversations):
            messages = [
                {"role": "system", "content": system},
                {"role": "user", "content": self._words(load.history)},
            ]
            for _ in range(load.rounds):
                answer = self._words(load.answer)
                yield messages, answer
                messages = [
                    *messages,
                    {"role": "assistant", "content": answer},
                    {"role": "user", "content": self._words(load.question)},
                ]

    def _advance(self, talk: Iterator[tuple[list[dict[str, str]], str]]) -> None:
        turn = next(talk, None)
        if turn is not None:
            messages, answer = turn
            key = request_key(json.dumps({"model": "m", "stream": True, "messages": messages}).encode())
            text = "".join(m["role"] + m["content"] for m in messages)
            self._send(key, text.encode(), (text + "assistant" + answer).encode(), lambda: self._advance(talk))

    def _send(self, key: RequestKey, text: bytes, whole: bytes, then: Callable[[], None]) -> None:
        policy = self._rng.choice(self._replicas)
        pick = policy.pick(key, self._now)
        assert pick is not None
        ticket = policy.on_start(pick, self._now)
        engine = self._engines[pick.engine]
        asked = self._now
        machine, load = self._machine, self._load

        def prefill() -> None:
            engine.busy = True
            blocks, chunks = chain(text, BLOCK), chain(text, CHUNK)
            held = engine.cache.matched(blocks) * BLOCK
            shared = max(0, self._shared.matched(chunks) * CHUNK - held)
            tiers = TierTokens(held, shared, len(text) // TOKEN_BYTES - held - shared)
            self.result.served.append(tiers)
            self.result.expected.append(pick.tiers)
            self._at(tiers.compute / machine.prefill + shared / machine.reload, lambda: first(blocks, chunks))

        def first(blocks: list[int], chunks: list[int]) -> None:
            engine.cache.touch(blocks)
            self._shared.touch(chunks)
            self.result.waits.append(self._now - asked)
            policy.on_first_token(ticket, self._now)
            engine.busy = False
            if engine.queue:
                engine.queue.popleft()()
            self._at(load.answer / machine.decode, end)

        def end() -> None:
            policy.on_end(ticket, self._now)
            engine.cache.touch(chain(whole, BLOCK))
            self._at(self._rng.expovariate(1 / load.think), then)

        if engine.busy:
            engine.queue.append(prefill)
        else:
            prefill()
