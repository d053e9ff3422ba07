"""A service under traffic, scrape by scrape, and what CacheEffective says of it after each.

The counters are those that engines, LMCache server and router really keep; what happens between two scrapes is told by
`Round`, and a test changes it in the middle.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from llmcache_operator.core.counts import RouterSample
from llmcache_operator.core.effect.judge import judge
from llmcache_operator.core.target import Component, Target
from llmcache_operator.core.values import CacheSample, EngineSample, Observed, ScrapeFailure
from llmcache_operator.core.window import Measurement
from tests.core.samples import NOW, pod, resource, stamp, target

if TYPE_CHECKING:
    from llmcache_operator.core.conditions import Verdict
    from llmcache_operator.core.values import Json

STEP = 15.0
CHUNK_BYTES = 2**20
SERVER = "chat-cache-0"
SECONDS = ("busy", "prefilling", "loading")
"""Counters that are no whole numbers."""


@cache
def _target(spec: str) -> Target:
    return target(**json.loads(spec))


@dataclass
class Round:
    """What one engine does between two scrapes. `own` and `server` are parts of its prompt tokens; `found` what LMCache
    finds of what is asked (None: all that engines take). Seconds are those of a token."""

    requests: int = 10
    prompt: int = 2000
    own: float = 0.4
    server: float = 0.3
    found: float | None = None
    short: float = 0.0
    compute_seconds: float = 0.002
    reload_seconds: float = 0.0004
    asked: float = 0.9
    written: int = 20
    evicted: int = 0
    no_room: int = 0
    through_router: float = 1.0
    expected: float = 0.7


@dataclass
class Pod:
    """One engine: its counters, and what its pod and its answers say."""

    name: str
    counts: dict[str, float] = field(default_factory=dict)
    born: float = 1.0
    path: str = "/llmcache/run/0123456789ab-ba9876543210"
    version: str = "0.32.0"
    reaches: bool = True
    connector: bool = True
    args: tuple[str, ...] = ("--dtype", "bfloat16")
    round: Round = field(default_factory=Round)
    frozen: frozenset[str] = frozenset()
    cache_dtype: str = "auto"
    queued: int = 0
    waiting: int = 0
    counts_moves: bool = False

    def add(self, **growth: float) -> None:
        """Let counters grow, except those that stand still."""
        for name, value in growth.items():
            if name not in self.frozen:
                self.counts[name] = self.counts.get(name, 0) + value

    def sample(self, at: float) -> EngineSample:
        """Scrape it."""
        whole: dict[str, Any] = {name: round(value) for name, value in self.counts.items() if name not in SECONDS}
        if not self.connector:
            whole["lookups"] = None
        return EngineSample(
            self.name, f"uid-{self.name}", at, whole.pop("computed", 0), whole.pop("engine_hits", 0),
            whole.pop("server_hits", 0), started_at=self.born, model_path=self.path, version=self.version,
            block_size="32", cache_dtype=self.cache_dtype, queued=self.queued, waiting=self.waiting,
            **{name: self.counts.get(name, 0.0) for name in SECONDS}, **whole,
        )  # fmt: skip


@dataclass
class Story:
    """Two engines, one LMCache server, one router. `registered` is what the server's /status tells; `uneven` by what
    part the traffic of an engine differs from scrape to scrape; `lost` are pods whose scrapes fail."""

    engines: list[Pod] = field(default_factory=lambda: [Pod("chat-engine-0"), Pod("chat-engine-1")])
    spec: dict[str, Any] = field(default_factory=dict)
    at: float = NOW
    measurement: Measurement = field(default_factory=Measurement)
    status: Json = field(default_factory=lambda: {"conditions": []})
    told: list[Verdict] = field(default_factory=list)
    settled: bool = True
    sharing: Verdict | None = None
    server: dict[str, float] = field(default_factory=dict)
    server_born: float = 2.0
    server_up: bool = True
    server_answers: bool = True
    chunk_size: int = 256
    used: float = 0.0
    capacity: float = 4096 * CHUNK_BYTES
    registered: float | None = None
    routed: dict[str, float] = field(default_factory=dict)
    router_born: float = 3.0
    has_router: bool = True
    lost: tuple[str, ...] = ()
    noise: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - test data
    uneven: float = 0.0

    def play(self, rounds: int = 1) -> Verdict:
        """Let time pass, a scrape and a look at the end of each round; returns what the last look told."""
        for _ in range(rounds):
            self.at += STEP
            for engine in self.engines:
                self._serve(engine)
            self._scrape()
            self.told.append(self._look())
        return self.told[-1]

    def each(self, **fields: Any) -> None:
        """Change what every engine does."""
        for engine in self.engines:
            engine.round = replace(engine.round, **fields)

    def restart(self, engine: Pod) -> None:
        """Let an engine begin again from nothing."""
        engine.counts, engine.born = {}, self.at + 1

    def restart_server(self) -> None:
        """Let the server begin again, empty."""
        self.server, self.used, self.server_born = {}, 0.0, self.at + 1

    def restart_router(self) -> None:
        """Let the router begin again."""
        self.routed, self.router_born = {}, self.at + 1

    def reasons(self) -> list[str]:
        """All reasons told so far, repeats left out."""
        reasons = [verdict.reason.value for verdict in self.told]
        return [reason for index, reason in enumerate(reasons) if not index or reasons[index - 1] != reason]

    def _serve(self, engine: Pod) -> None:
        does = engine.round
        if self.uneven:
            odd = 1 + self.uneven * self.noise.uniform(-1, 1)
            prompt = round(does.prompt * (1 + self.uneven * self.noise.uniform(-1, 1)))
            does = replace(does, requests=round(does.requests * odd), own=does.own * odd, prompt=prompt)
        tokens = does.requests * does.prompt
        reaches = self.server_up and self.server_answers and engine.reaches and engine.connector
        own, fetched = does.own * tokens, does.server * tokens * reaches
        computed = tokens - own - fetched
        engine.add(
            computed=computed, engine_hits=own, server_hits=fetched, prompt_tokens=tokens, own_found=own,
            server_found=fetched, served=does.requests, ended=does.requests, short=does.requests * does.short,
            lookups=does.requests, busy=computed * does.compute_seconds + fetched * does.reload_seconds,
        )  # fmt: skip
        if engine.counts_moves:
            engine.add(prefilled=computed, prefilling=computed * does.compute_seconds)
            engine.add(loaded=fetched, loading=fetched * does.reload_seconds)
        if self.has_router:
            sent = does.requests * does.through_router
            expected = {"engine": does.expected * tokens, "compute": (1 - does.expected) * tokens}
            for name, value in {"picks": sent, **expected}.items():
                self.routed[name] = self.routed.get(name, 0) + value
        if reaches:
            asked = does.asked * tokens
            found = own + fetched if does.found is None else does.found * asked
            self._count(lookups=does.requests, asked=asked, found=min(asked, found), written=does.written)
            self._count(evicted=does.evicted, no_room=does.no_room)
            self.used = min(self.capacity, self.used + CHUNK_BYTES * does.written)

    def _count(self, **growth: float) -> None:
        for name, value in growth.items():
            self.server[name] = self.server.get(name, 0) + value

    def _scrape(self) -> None:
        found = self.measurement
        for engine in self.engines:
            found = found.with_engine(engine.sample(self.at))
        if self.server_up and self.server_answers:
            found = found.with_cache(self._server_sample(), SERVER)
        else:
            found = found.with_failure(ScrapeFailure(SERVER, self.at, "http://10.0.0.9:8080/metrics: refused"))
        if self.has_router:
            whole = {name: round(value) for name, value in self.routed.items()}
            found = found.with_router(
                RouterSample(
                    "chat-router-0", "uid-r0", self.at, whole.pop("picks", 0), **whole, started_at=self.router_born
                )
            )
        for name in self.lost:
            found = found.with_failure(ScrapeFailure(name, self.at, "http://10.0.0.9:9090/metrics: refused"))
        names = {engine.name for engine in self.engines} | {SERVER, "chat-router-0", *self.lost}
        self.measurement = found.only(names, self.at, 300.0)

    def _server_sample(self) -> CacheSample:
        whole = {name: round(value) for name, value in self.server.items()}
        return CacheSample(
            self.at, self.used / self.capacity, round(self.used), whole.pop("evicted", 0), started_at=self.server_born,
            written_chunks=whole.pop("written", 0), objects=round(self.used / CHUNK_BYTES), chunk_size=self.chunk_size,
            registered=len(self.engines) if self.registered is None else self.registered, version="0.5.6", **whole,
        )  # fmt: skip

    def _look(self) -> Verdict:
        pods = [self._pod(engine) for engine in self.engines]
        if self.server_up:
            pods.append(pod(Component.CACHE_SERVER, SERVER))
        observed = Observed(resource(status=self.status), pods=tuple(pods))
        verdict = judge(
            _target(json.dumps(self.spec)),
            observed,
            self.measurement,
            self.at,
            settled=self.settled,
            sharing=self.sharing,
        )
        status = {True: "True", False: "False", None: "Unknown"}[verdict.status]
        told = {"type": "CacheEffective", "status": status, "reason": verdict.reason.value, "message": verdict.message}
        self.status = {"conditions": [told]}
        return verdict

    def _pod(self, engine: Pod) -> Json:
        made = pod(Component.ENGINE, engine.name)
        made["spec"] = {"containers": [{"name": "engine", "args": list(engine.args)}]}
        made["status"]["conditions"][0]["lastTransitionTime"] = stamp(3600)
        return made
