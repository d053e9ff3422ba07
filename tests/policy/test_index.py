"""The bounded memory of prefixes."""

from hypothesis import given
from hypothesis import strategies as st

from llmcache_runtime.policy.hashing import CHUNK_BYTES, chain
from llmcache_runtime.policy.index import PrefixIndex

TEXTS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), min_size=1, max_size=40)


def hashes(letters: list[str]) -> tuple[int, ...]:
    return chain("".join(letter * CHUNK_BYTES for letter in letters).encode(), 0)


@given(TEXTS, st.integers(1, 30))
def test_memory_is_bounded_and_holds_prefixes_only(texts: list[list[str]], capacity: int) -> None:
    index = PrefixIndex(capacity)
    for text in texts:
        index.touch(hashes(text))

        assert len(index) <= capacity
        assert index.matched(hashes(text)) == min(len(text), capacity)
    for text in texts:
        held = {item for run in index._runs.values() for item in run}

        assert index.matched(hashes(text)) == len(held.intersection(hashes(text)))


@given(TEXTS)
def test_without_pressure_nothing_is_forgotten(texts: list[list[str]]) -> None:
    index = PrefixIndex(1000)
    for text in texts:
        index.touch(hashes(text))

    assert all(index.matched(hashes(text)) == len(text) for text in texts)


def test_what_was_used_last_is_forgotten_last() -> None:
    index = PrefixIndex(64)
    old, young = tuple(range(100, 140)), tuple(range(200, 220))
    index.touch(old)
    index.touch(young)
    index.touch(old)
    index.touch(tuple(range(300, 320)))

    assert index.matched(old) == 40
    assert index.matched(young) < 20


def test_a_smaller_capacity_takes_effect_at_once() -> None:
    index = PrefixIndex(100)
    index.touch(tuple(range(100)))
    index.resize(10)

    assert len(index) <= 10
    assert index.matched(tuple(range(100))) == len(index)


def test_a_conversation_is_one_entry_however_long_it_grows() -> None:
    index = PrefixIndex(1000)
    for turn in range(1, 20):
        index.touch(tuple(range(10 * turn)))

    assert len(index) == index.matched(tuple(range(190))) == 190
    assert len(index._runs) == 1


def test_conversations_that_part_are_both_held() -> None:
    index = PrefixIndex(1000)
    head, one, other = (1, 2, 3), (10, 11), (20, 21)
    for prompt in (head + one, head + other, head + one + (12,), head + other + (22,)):
        index.touch(prompt)

    assert [index.matched(head + tail) for tail in ((10, 11, 12), (20, 21, 22), (30,))] == [6, 6, 3]
    assert len(index) == 9


def test_an_empty_chain_matches_nothing() -> None:
    assert PrefixIndex(10).matched(()) == 0
