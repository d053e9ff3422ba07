"""What no order of events may break: bounds of memory and of load, and how little moves when engines come and go."""

from hypothesis import given, settings
from hypothesis import strategies as st

from llmcache_runtime.policy import PrefixAware, Prices, RequestKey, SessionAffinity
from llmcache_runtime.policy.hashing import digest
from llmcache_runtime.policy.prefix_aware import CHUNK_TOKENS

CHUNKS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40, unique=True)
HOMES = st.lists(st.integers(0, 2**64 - 1), min_size=40, max_size=80, unique=True)


def names(count: int) -> list[str]:
    return [f"engine-{i}" for i in range(count)]


def prompt(home: int, chunks: list[int] | None = None) -> RequestKey:
    made = tuple(chunks or [digest(home.to_bytes(8, "big"), i) for i in range(20)])
    return RequestKey(chunks=made, tokens=CHUNK_TOKENS * len(made), home=home)


def firsts(homes: list[int], engines: list[str]) -> dict[int, str]:
    """Give the engine that each conversation would begin on."""
    policy = PrefixAware()
    for name in engines:
        policy.add(name, 0.0)
    picks = {home: policy.pick(prompt(home), 0.0) for home in homes}
    return {home: pick.engine for home, pick in picks.items() if pick is not None}


@settings(max_examples=40, deadline=None)
@given(homes=HOMES, count=st.integers(1, 6))
def test_a_new_engine_takes_conversations_and_moves_no_other(homes: list[int], count: int) -> None:
    before, after = firsts(homes, names(count)), firsts(homes, names(count + 1))

    assert len(before) == len(after) == len(homes)
    assert {after[home] for home in homes if after[home] != before[home]} <= {f"engine-{count}"}


@settings(max_examples=40, deadline=None)
@given(prompts=st.lists(CHUNKS, min_size=1, max_size=60), capacity=st.integers(16, 200), shared=st.integers(1, 50))
def test_memory_is_bounded_for_each_engine_and_gone_with_it(
    prompts: list[list[int]], capacity: int, shared: int
) -> None:
    policy = PrefixAware(engine_chunks=capacity, shared_chunks=shared)
    for name in names(3):
        policy.add(name, 0.0)
    for now, chunks in enumerate(prompts):
        pick = policy.pick(prompt(chunks[0], chunks), now)
        assert pick is not None
        ticket = policy.on_start(pick, now)
        policy.on_first_token(ticket, now + 0.5)
        policy.on_end(ticket, now + 0.6)

        indexes = [memory.prefixes for memory in policy._memories.values()]
        assert all(len(index) <= capacity for index in indexes)
        assert len(policy._shared) <= shared
    for name in names(3):
        policy.remove(name)

    assert not policy.engines
    assert not policy._memories


@settings(max_examples=40, deadline=None)
@given(
    sessions=st.lists(st.binary(min_size=1, max_size=2), min_size=1, max_size=60),
    count=st.integers(1, 5),
    bound=st.floats(1.05, 3.0),
)
def test_no_engine_of_session_affinity_is_over_its_bound(sessions: list[bytes], count: int, bound: float) -> None:
    policy = SessionAffinity(bound)
    for name in names(count):
        policy.add(name, 0.0)
    for started, session in enumerate(sessions, start=1):
        pick = policy.pick(RequestKey(session=session), 0.0)
        assert pick is not None
        policy.on_start(pick, 0.0)

        assert max(engine.running for engine in policy.engines) < bound * started / count + 1


@given(chunks=CHUNKS)
def test_a_restarted_engine_is_expected_to_hold_nothing(chunks: list[int]) -> None:
    policy = PrefixAware()
    policy.add("engine", 0.0)
    pick = policy.pick(prompt(1, chunks), 0.0)
    assert pick is not None
    policy.on_end(policy.on_start(pick, 0.0), 1.0)
    known = policy.pick(prompt(1, chunks), 1.0)
    policy.restart("engine")
    after = policy.pick(prompt(1, chunks), 1.0)

    assert known is not None
    assert after is not None
    assert (known.tiers.engine, after.tiers.engine) == (CHUNK_TOKENS * len(chunks), 0)


def test_a_prompt_at_work_counts_less_the_longer_it_is_worked_on() -> None:
    policy = PrefixAware()
    policy.add("engine", 0.0)
    policy.set_prefill_rate("engine", 640.0)
    pick = policy.pick(prompt(1), 0.0)
    assert pick is not None
    first = policy.on_start(pick, 10.0)
    (engine,) = policy.engines
    ahead = [engine.ahead(now) for now in (10.0, 11.0, 20.0)]
    policy.on_start(pick, 20.0)
    policy.on_first_token(first, 20.0)

    assert ahead == [pick.cost, pick.cost - 640.0, 0.0]
    assert engine.ahead(20.0) == pick.cost > 640.0


def test_a_full_engine_that_is_sent_more_gets_fewer_of_the_new_prompts() -> None:
    policy = PrefixAware(Prices(reload_ratio=1.0, room=2.0), engine_chunks=16)
    for name in names(2):
        policy.add(name, 0.0)
    for turn in range(20):
        for name, times in (("engine-0", 3), ("engine-1", 1)):
            for copy in range(times):
                pick = policy.pick(prompt(turn * 10 + copy), 0.0, set(names(2)) - {name})
                assert pick is not None
                policy.on_end(policy.on_start(pick, 0.0), 0.0)
    new = [policy.pick(prompt(1000 + i), 0.0) for i in range(200)]

    assert sum(pick is not None and pick.engine == "engine-0" for pick in new) < 60
