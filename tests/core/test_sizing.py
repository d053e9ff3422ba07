"""Sizes in bytes and tokens: the arithmetic, and what can't be."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.sizing import MOST_FILL, problem, sizing, token_bytes, valkey_fill
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import Observed
from tests.core.samples import MODEL, SETTINGS, main_container, planned, resource, target

GIB = 1 << 30
LLAMA_8B = {"layers": 32, "heads": 8, "headDim": 128}
SMOLLM2 = {"layers": 30, "heads": 3, "headDim": 64}
DEEPSEEK_V3 = {"layers": 61, "heads": 1, "headDim": 576, "planes": 1}


def spec(shape: dict[str, Any] = LLAMA_8B, **parts: Any) -> Any:
    return target(model=MODEL | {"kv": shape}, **parts).spec


@pytest.mark.parametrize(
    ("shape", "engine", "size"),
    [
        (LLAMA_8B, {}, 131_072),
        (SMOLLM2, {}, 23_040),
        (DEEPSEEK_V3, {"tensorParallelSize": 8}, 70_272),
        (LLAMA_8B | {"dtype": "fp8"}, {}, 65_536),
        (LLAMA_8B, {"tensorParallelSize": 16}, 262_144),
    ],
)
def test_a_tokens_kv_follows_from_the_models_shape(shape: dict[str, Any], engine: dict[str, Any], size: int) -> None:
    assert token_bytes(spec(shape, engine=engine)) == size


def test_without_the_shape_only_bytes_are_known() -> None:
    plain = sizing(target().spec)

    assert (plain.server_bytes, plain.tokens, plain.token_bytes) == (4 * GIB, None, None)
    assert plain.kv_bytes == int(4 * GIB * MOST_FILL)


@pytest.mark.parametrize("capacity", [{"tokens": "2M"}, {"tokens": 2_000_000}, {"users": 100, "tokensPerUser": "20k"}])
def test_a_capacity_is_what_a_server_holds_before_it_evicts(capacity: dict[str, Any]) -> None:
    sizes = sizing(spec(cache={"capacity": capacity}))

    assert sizes.server_bytes * MOST_FILL >= 2_000_000 * 131_072
    assert sizes.tokens is not None
    assert 2_000_000 <= sizes.tokens < 2_000_100


def test_engines_with_a_server_each_divide_what_they_do_not_share() -> None:
    cache = {"topology": "PerEngine", "capacity": {"tokens": "1M"}}
    four = sizing(spec(engine={"replicas": 4}, cache=cache))
    unknown = sizing(spec(cache=cache))

    assert four.servers == 4
    assert four.server_bytes == pytest.approx(unknown.server_bytes / 4, rel=1e-3)
    assert unknown.servers == 1, "an autoscaler may leave one"


def test_a_valkey_without_a_size_of_its_own_holds_the_capacity() -> None:
    cache = {"topology": "PerEngine", "capacity": {"tokens": "1M"}, "l2": {"valkey": {"managed": {}}}}
    plain = sizing(spec(cache=cache))
    small = sizing(spec(cache=cache | {"l2": cache["l2"] | {"compression": "FP8"}}))

    assert plain.valkey_bytes is not None
    assert small.valkey_bytes is not None
    assert plain.valkey_bytes >= 1_000_000 * 131_072
    assert small.valkey_bytes == pytest.approx(plain.valkey_bytes / 2, rel=1e-3)
    assert plain.tokens is not None
    assert plain.tokens >= 1_000_000


@pytest.mark.parametrize(
    ("shape", "parts", "value", "taken"),
    [
        (SMOLLM2, {}, 5_898_240, 6_291_456),
        (LLAMA_8B, {}, 32 << 20, 40 << 20),
        (LLAMA_8B, {"engine": {"tensorParallelSize": 2}}, 16 << 20, 20 << 20),
        (LLAMA_8B | {"layers": 40}, {"cache": {"chunkSize": 64}}, 10 << 20, 12 << 20),
    ],
)
def test_values_in_valkey_take_the_next_size_that_its_allocator_has(
    shape: dict[str, Any], parts: dict[str, Any], value: int, taken: int
) -> None:
    """`taken`: what MEMORY USAGE told of such values, less 48 bytes (Redis 7.0)."""
    assert valkey_fill(spec(shape, **parts)) == Fraction(19, 20) * Fraction(value, taken)


def test_of_values_of_unknown_size_the_worst_is_taken() -> None:
    assert valkey_fill(target().spec) <= min(valkey_fill(spec(shape)) for shape in (LLAMA_8B, SMOLLM2, DEEPSEEK_V3))


@pytest.mark.parametrize(
    ("coding", "times"),
    [({}, 1.0), ({"compression": "FP8"}, 1.5), ({"encryptionKeySecretRef": {"name": "key"}}, 2.0)],
)
def test_what_is_decoded_comes_in_beside_itself(coding: dict[str, Any], times: float) -> None:
    """LMCache loads all of a prompt's coded chunks into the same memory first, and loads none where they don't fit."""
    l2 = {"valkey": {"managed": {}}} | coding
    engine = {"maxModelLen": 16_384}
    sizes = sizing(spec(engine=engine, cache={"memory": "16Gi", "l2": l2}))

    free = (1 - sizes.fill) * sizes.server_bytes
    assert free >= times * 16_384 * 131_072
    assert float(sizes.fill) == pytest.approx(min(0.8, 1 - times * 2 / 16))


def test_what_can_not_hold_one_prompt_is_refused_with_the_arithmetic() -> None:
    service = resource(model=MODEL | {"kv": LLAMA_8B}, engine={"maxModelLen": 131_072}, cache={"memory": "8Gi"})
    decision = decide(Observed(service), SETTINGS)

    assert decision.plan.apply == ()
    assert decision.error is not None
    for part in ("8.00 GiB", "131,072 bytes a token", "52,428 tokens", "maxModelLen = 131,072", "20.00 GiB"):
        assert part in decision.error


def test_a_capacity_that_divides_into_less_than_a_prompt_each_is_refused_with_one_that_would_do() -> None:
    engine = {"replicas": 13, "maxModelLen": 131_072}
    told = problem(spec(engine=engine, cache={"topology": "PerEngine", "capacity": {"tokens": "400k"}}))

    assert "400,000 tokens in 13 LMCache servers" in str(told)
    assert "Ask for 1,703,936 tokens or more" in str(told)
    enough = {"topology": "PerEngine", "capacity": {"tokens": 1_703_936}}
    assert problem(spec(engine=engine, cache=enough)) is None


@given(
    tokens=st.integers(32_768, 10_000_000), longest=st.integers(256, 32_768), coding=st.sampled_from(["", "FP8", "AES"])
)
@example(tokens=33_000, longest=32_768, coding="AES")
def test_the_longest_prompt_always_fits_in_beside_a_capacity(tokens: int, longest: int, coding: str) -> None:
    how: dict[str, Any] = {"FP8": {"compression": "FP8"}, "AES": {"encryptionKeySecretRef": {"name": "k"}}}.get(
        coding, {}
    )
    l2 = {"l2": {"fileSystem": {"claimName": "kv"}} | how}
    sizes = sizing(spec(engine={"maxModelLen": longest}, cache={"capacity": {"tokens": tokens}} | l2))

    coming = longest * 131_072 * {"": 2, "FP8": 3, "AES": 4}[coding] // 2
    assert (1 - sizes.fill) * sizes.server_bytes >= coming


def test_more_than_any_machine_has_is_refused() -> None:
    assert "64Ti" in str(problem(spec(cache={"capacity": {"tokens": "1P"}})))


def test_the_servers_pod_follows_from_the_capacity() -> None:
    made = planned(model=MODEL | {"kv": SMOLLM2}, cache={"capacity": {"users": 12, "tokensPerUser": "4k"}})
    server = main_container(made, Component.CACHE_SERVER)
    size = float(server["args"][server["args"].index("--l1-size-gb") + 1])

    assert size * GIB * MOST_FILL >= 48_000 * 23_040
    assert server["resources"]["limits"]["memory"].endswith("Mi")


@pytest.mark.parametrize(
    ("memory", "fill"), [("100Gi", "0.8"), ("16Gi", "0.75"), ("10Gi", "0.6"), ("8Gi", "0.5"), ("6Gi", "0.5")]
)
def test_a_server_evicts_early_enough_for_the_longest_prompt_to_fit_in_beside(memory: str, fill: str) -> None:
    """It has 4 GiB of KV. What is loaded from an L2 comes in as a whole, or counts as a miss."""
    cache = {"memory": memory}
    made = planned(model=MODEL | {"kv": LLAMA_8B}, engine={"maxModelLen": 32_768}, cache=cache)
    args = main_container(made, Component.CACHE_SERVER)["args"]

    assert args[args.index("--eviction-trigger-watermark") + 1] == fill


def test_room_for_the_longest_prompt_is_set_aside_beside_a_capacity() -> None:
    cache = {"capacity": {"tokens": "100k"}}
    plain, long = (sizing(spec(engine=engine, cache=cache)) for engine in ({}, {"maxModelLen": 50_000}))

    assert long.server_bytes == pytest.approx(150_000 * 131_072, rel=1e-3)
    assert plain.server_bytes == pytest.approx(125_000 * 131_072, rel=1e-3)
    assert plain.tokens is not None
    assert long.tokens is not None
    assert 100_000 <= long.tokens <= 100_010
    assert 100_000 <= plain.tokens <= 100_010


@given(
    st.integers(1_000, 10**8),
    st.integers(1, 64),
    st.sampled_from(["Shared", "PerEngine"]),
    st.booleans(),
)
@example(4096, 5, "PerEngine", False)
def test_whatever_is_asked_for_fits_in(tokens: int, replicas: int, topology: str, valkey: bool) -> None:  # noqa: FBT001
    l2 = {"l2": {"valkey": {"managed": {}}}} if valkey else {}
    cache = {"topology": topology, "capacity": {"tokens": tokens}} | l2
    sizes = sizing(spec(engine={"replicas": replicas}, cache=cache))

    assert sizes.tokens is not None
    assert sizes.tokens >= tokens
