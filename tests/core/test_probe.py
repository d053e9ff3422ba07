"""What the self-test asks, and how it reads the answers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.core.probe import (
    TOLERANCE,
    VOCABULARY,
    Answer,
    answer,
    counted,
    prompt,
    question,
    same,
    stored,
    taken,
)
from llmcache_operator.core.values import EngineSample

CHUNK, PROMPT = 256, 289
COLD = Answer({"token_id:7": -0.1, "token_id:8": -3.0}, PROMPT, 0)


def counters(computed: int = 0, engine: int = 0, server: int = 0) -> EngineSample:
    return EngineSample("a", "uid-a", 0.0, computed, engine, server)


def body(**changes: Any) -> str:
    choice = {"logprobs": {"top_logprobs": [{"token_id:7": -0.1, "token_id:8": -3}]}}
    whole = {"choices": [choice], "usage": {"prompt_tokens": PROMPT, "prompt_tokens_details": {"cached_tokens": 256}}}
    return json.dumps(whole | changes)


@given(st.integers(1, 600), st.integers(0, 700))
def test_a_prompt_is_fresh_tokens_and_then_a_part_of_them_again(size: int, tail: int) -> None:
    fresh = list(range(size))
    tokens = prompt(fresh, tail)

    assert tokens[:size] == fresh
    assert len(tokens) == size + tail
    steps = {(after - before) % size for before, after in zip(tokens[size:], tokens[size + 1 :], strict=False)}
    assert steps <= {1 % size}, "it goes on in the order of the first time"


def test_what_comes_next_has_come_once_before_and_not_at_the_end() -> None:
    tokens = prompt(range(256), 33)

    assert tokens[-1] + 1 in tokens[:256]


def test_token_ids_are_ordinary_words_of_common_tokenizers() -> None:
    assert VOCABULARY.start >= 1000
    assert VOCABULARY.stop <= 30_000


def test_a_question_names_tokens_and_asks_for_one_with_its_rivals() -> None:
    asked = question("smol", [5, 6])

    assert asked["prompt"] == [5, 6]
    assert (asked["max_tokens"], asked["temperature"], asked["logprobs"]) == (1, 0, 5)
    assert "cache_salt" not in asked
    assert question("smol", [5], "salt")["cache_salt"] == "salt"


def test_an_answer_is_read() -> None:
    assert answer(body()) == Answer({"token_id:7": -0.1, "token_id:8": -3.0}, PROMPT, 256)
    assert answer(body(usage={"prompt_tokens": PROMPT})).cached_tokens is None
    assert answer(body(usage={"prompt_tokens": PROMPT, "prompt_tokens_details": None})).cached_tokens is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "[" * 100_000,
        body(choices=[]),
        body(choices=[{"logprobs": None}]),
        body(choices=[{"logprobs": {"top_logprobs": [{}]}}]),
        body(choices=[{"logprobs": {"top_logprobs": [{"a": "x"}]}}]),
        body(usage=None),
    ],
)
def test_what_is_no_answer_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="/v1/completions"):
        answer(text)


logprobs = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-20, 0), min_size=1, max_size=5)
answers = st.builds(Answer, logprobs, st.just(PROMPT))


@given(answers, answers)
def test_agreement_is_mutual_and_with_itself(one: Answer, other: Answer) -> None:
    assert same(one, one)
    assert same(one, other) == same(other, one)


@given(answers, st.lists(st.floats(-0.9, 0.9), min_size=5, max_size=5))
def test_noise_within_the_tolerance_is_the_same_answer(one: Answer, noise: list[float]) -> None:
    other = {token: value + shift * TOLERANCE for (token, value), shift in zip(one.top.items(), noise, strict=False)}

    assert same(one, replace(one, top=other))


@pytest.mark.parametrize(
    "top",
    [
        {"token_id:1": -0.1, "token_id:2": -3.0},
        {"token_id:9": -0.1, "token_id:8": -3.0},
        {"token_id:8": -0.1, "token_id:9": -3.0},
        {"token_id:7": -2.1, "token_id:8": -3.0},
        {"token_id:7": math.nan, "token_id:8": -3.0},
        {"token_id:7": -math.inf, "token_id:8": -3.0},
    ],
    ids=["others", "first one missing", "other first", "too different", "no number", "impossible"],
)
def test_other_answers_are_not_the_same(top: dict[str, float]) -> None:
    assert not same(COLD, replace(COLD, top=top))


def test_a_reader_that_counted_nothing_from_the_server_took_nothing() -> None:
    assert taken(counters(), counters(computed=PROMPT), COLD, CHUNK) is False
    assert taken(counters(), counters(computed=PROMPT), replace(COLD, cached_tokens=256), CHUNK) is False


def test_the_answer_itself_knows_best() -> None:
    moved = counters(computed=900, server=600)

    assert taken(counters(), moved, replace(COLD, cached_tokens=256), CHUNK) is True
    assert taken(counters(), moved, replace(COLD, cached_tokens=0), CHUNK) is False


def test_without_that_only_an_engine_that_computed_less_than_the_prompt_is_sure_to_have_taken_it() -> None:
    silent = replace(COLD, cached_tokens=None)

    assert taken(counters(), counters(computed=33, server=256), silent, CHUNK) is True
    assert taken(counters(), counters(computed=322, server=256), silent, CHUNK) is None


parts = st.tuples(st.integers(0, 600), st.integers(0, 600), st.integers(0, 600))


@given(parts, st.booleans())
def test_other_requests_never_make_a_reader_look_as_if_it_shared(others: tuple[int, int, int], shares: bool) -> None:  # noqa: FBT001
    """The counters hold this request and others; without `cached_tokens` the truth is found, or nothing is claimed."""
    mine = (33, 0, 256) if shares else (PROMPT, 0, 0)
    moved = counters(*(mine[tier] + others[tier] for tier in range(3)))

    assert taken(counters(), moved, replace(COLD, cached_tokens=None), CHUNK) in (shares, None)
    assert counted(counters(), moved, PROMPT)


def test_only_chunks_without_a_salt_count_as_stored() -> None:
    name = "lmcache_mp_l1_write_chunks_total"
    lines = [f'{name}{{cache_salt="{salt}",l1_tag="{tag}"}} 2.0' for salt in ("", "x") for tag in ("a", "b")]

    assert stored("\n".join(lines)) == 4
    assert stored("") == 0
    with pytest.raises(ValueError, match=name):
        stored(f'{name}{{cache_salt=""}} NaN')
