"""Hit ratio and time to first token of routing policies, on one simulated fleet: tables and numbers for plots.

Everything runs in virtual time (`tests.policy.simulation`), so figures depend on seeds and on nothing else.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean, stdev

from rich.progress import track
from rich.table import Table

from llmcache_runtime.policy import Fleet, LeastLoaded, PrefixAware, Prices, RoundRobin, SessionAffinity
from tests.bench import router_bound
from tests.bench.neighbours import CacheAware, HashRing, KvAware, KvCost, PrefixTrie, StickyLeastLoaded
from tests.policy.load import Load
from tests.policy.simulation import Machine, Result, Simulation

SEEDS = (1, 2, 3)
QA = Load()
SESSION = replace(QA, session=True)
ROOMY, TIGHT = Machine(cache=60_000), Machine(cache=30_000)
SHARED = replace(TIGHT, shared=2_000_000)
DOCUMENTS = Load(users=32, conversations=6, rounds=2, history=6000, documents=40)
LONG = Load(users=24, conversations=2, rounds=10, history=20_000, think=10.0)
"""The sizes of production-stack's own run (benchmarks/multi-round-qa/run.sh); users and pace are ours."""
LONG_SHARED = Machine(cache=120_000, shared=4_000_000, reload=8000 / 0.15)

Make = Callable[[], Fleet]


@dataclass(frozen=True)
class Case:
    """One cell of a table: a policy, a load, a fleet."""

    row: str
    column: str
    make: Make
    load: Load
    machine: Machine
    replicas: int = 1
    price: bool = True
    play: Callable[..., Result] | None = None
    """What plays it, where `Simulation` does not."""

    def run(self, seed: int) -> Result:
        """Play it with a seed."""
        load = replace(self.load, seed=seed)
        if self.play:
            return self.play(self.make, load, self.machine, price=self.price)
        return Simulation(self.make, load, self.machine, self.replicas, price=self.price).run()


@dataclass(frozen=True)
class Figure:
    """What a case gave over all seeds: percent, milliseconds, and the standard deviation of each."""

    row: str
    column: str
    hit: float
    hit_spread: float
    shared: float
    ttft: float
    ttft_spread: float


POLICIES: dict[str, tuple[Make, Load]] = {
    "PrefixAware (this router)": (PrefixAware, QA),
    "vllm-router sticky ¹": (StickyLeastLoaded, SESSION),
    "vllm-router consistent_hash ¹, production-stack session ¹": (HashRing, SESSION),
    "SessionAffinity (this router)": (SessionAffinity, QA),
    "Dynamo KV router ²": (KvCost, QA),
    "vllm-router, smg cache_aware, tuned ³": (partial(CacheAware, 0.5, 8, 1.1), QA),
    "production-stack prefixaware, tuned ³": (partial(PrefixTrie, 4500), QA),
    "LeastLoaded (this router)": (LeastLoaded, QA),
    "RoundRobin (this router)": (RoundRobin, QA),
    "vllm-router kv_aware ²": (KvAware, QA),
    "vllm-router, smg cache_aware, defaults": (CacheAware, QA),
    "production-stack prefixaware, defaults": (PrefixTrie, QA),
}
"""¹ needs a session header, and gets one; ² needs KV events, and knows at once; ³ is tuned to this load."""


def policies() -> list[Case]:
    """All policies, roomy and tight, without a shared tier."""
    fleets = {"roomy": ROOMY, "tight": TIGHT}
    return [Case(n, c, make, load, m) for n, (make, load) in POLICIES.items() for c, m in fleets.items()]


def replicas() -> list[Case]:
    """Our policy behind several routers that tell each other nothing."""
    fleets = {"roomy": ROOMY, "tight": TIGHT, "tight, shared tier": SHARED}
    return [Case(f"{n}", c, PrefixAware, QA, m, replicas=n) for n in (1, 2, 4) for c, m in fleets.items()]


PRICING: dict[str, tuple[Make, bool]] = {
    "blind": (partial(PrefixAware, Prices(shared=False)), False),
    "dear": (PrefixAware, False),
    "priced": (PrefixAware, True),
}
"""Knows of no shared tier; knows it and thinks it as dear as computing; prices it as learned."""

USERS = (24, 48, 72, 96)
RATIOS = (0.1, 0.35, 0.8)


def pricing() -> list[Case]:
    """What pricing the shared tier changes, over load and over what a reload costs.

    The row `endless` is a bound: engines that forget nothing, so that no policy could find more in them. `clairvoyant`
    knows the future, in engines as they are, and is to be compared with `blind` as its own model plays it.
    """
    short = replace(QA, conversations=3)
    points = [(f"{users} users", replace(short, users=users), SHARED) for users in USERS]
    points += [(f"ratio {r}", short, replace(SHARED, reload=SHARED.prefill / r)) for r in RATIOS]
    points += [(f"documents, {users} users", replace(DOCUMENTS, users=users), SHARED) for users in (32, 64)]
    points += [("long", LONG, LONG_SHARED)]
    points += [("96 users, beside", replace(short, users=96), replace(SHARED, beside=True))]
    cases = [Case(n, c, make, load, m, price=price) for n, (make, price) in PRICING.items() for c, load, m in points]
    cases += [Case("endless", c, PrefixAware, load, replace(m, cache=10**7)) for c, load, m in points]
    known = [point for point in points if not point[2].beside]  # its model has none of these
    cases += [Case("clairvoyant", c, PrefixAware, load, m, play=router_bound.clairvoyant) for c, load, m in known]
    blind, price = PRICING["blind"]
    return cases + [
        Case("blind, its model", c, blind, load, m, price=price, play=router_bound.ordinary) for c, load, m in known
    ]


def ideal() -> Figure:
    """What one engine that forgets nothing would hit."""
    return measure(Case("one endless engine", "roomy", RoundRobin, QA, Machine(engines=1, cache=10**9, prefill=1e9)))


def measure(case: Case, seeds: Sequence[int] = SEEDS) -> Figure:
    """Run a case with every seed."""
    results = [case.run(seed) for seed in seeds]
    hits, waits = [r.percent("engine") for r in results], [1000 * r.ttft for r in results]
    shared = mean(r.percent("shared") for r in results)
    return Figure(case.row, case.column, mean(hits), stdev(hits), shared, mean(waits), stdev(waits))


def run(cases: Sequence[Case], title: str) -> list[Figure]:
    """Run cases, one on each core."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(track(pool.map(measure, cases), title, total=len(cases)))


def table(figures: Iterable[Figure], title: str) -> Table:
    """Show hit ratio and time to first token, one column a fleet."""
    figures = list(figures)
    columns = list(dict.fromkeys(f.column for f in figures))
    shown = Table("", *columns, title=f"{title}: engine hit %, mean TTFT ms (± over {len(SEEDS)} seeds)")
    for row in dict.fromkeys(f.row for f in figures):
        cells = [f"{f.hit:.1f} ±{f.hit_spread:.1f}, {f.ttft:.0f} ±{f.ttft_spread:.0f}" for f in figures if f.row == row]
        shown.add_row(row, *cells)
    return shown


def gains(figures: Iterable[Figure]) -> Table:
    """Show what pricing the shared tier gains in mean time to first token, at each point, and what the future would."""
    found = {(f.row, f.column): f for f in figures}
    rows = (*PRICING, "clairvoyant", "endless")
    gained = {
        "priced over blind": ("priced", "blind"),
        "over dear": ("priced", "dear"),
        "clairvoyant over blind": ("clairvoyant", "blind, its model"),
    }
    shown = Table("", *rows, *gained, title="pricing the shared tier: mean TTFT ms, tight")
    for column in dict.fromkeys(column for _, column in found):
        measured = {row: f for (row, c), f in found.items() if c == column}
        cells = [f"{f.ttft:.0f} ±{f.ttft_spread:.0f}" if (f := measured.get(row)) else "-" for row in rows]
        cells += [_gain(measured, *pair) for pair in gained.values()]
        shown.add_row(column, *cells)
    return shown


def _gain(measured: Mapping[str, Figure], row: str, other: str) -> str:
    if row not in measured:
        return "-"
    return f"{100 * (1 - measured[row].ttft / measured[other].ttft):+.0f} %"
