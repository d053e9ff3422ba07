from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_operator.core.identity import LENGTH, NEUTRAL_ARGS, NEUTRAL_ENV, identity
from llmcache_operator.core.values import Settings
from tests.core.samples import MODEL, target

SAME = identity(target())
VALUE_FROM = {"secretKeyRef": {"name": "a", "key": "b"}}


def of_args(*args: str) -> str:
    return identity(target(engine={"args": list(args)}))


def of_env(name: str, value: str = "1") -> str:
    return identity(target(engine={"env": [{"name": name, "value": value}]}))


def test_an_identity_is_short_and_hexadecimal() -> None:
    assert len(SAME) == LENGTH
    assert int(SAME, 16) >= 0


# Every way to change what cached KV means.
CHANGES: dict[str, dict[str, Any]] = {
    "another model": {"model": {"uri": "pvc://models/other"}},
    "a revision": {"model": MODEL | {"revision": "2"}},
    "another type": {"engine": {"dtype": "float16"}},
    "another device": {"engine": {"device": "CPU"}},
    "a context limit": {"engine": {"maxModelLen": 4096}},
    "another block size": {"engine": {"blockSize": 64}},
    "tensor parallelism": {"engine": {"tensorParallelSize": 2}},
    "another engine image": {"engine": {"image": "engine:2"}},
    "another cache image": {"cache": {"image": "cache:2"}},
    "another chunk size": {"cache": {"chunkSize": 512}},
    "quantization": {"engine": {"args": ["--quantization", "fp8"]}},
    "the short form of quantization": {"engine": {"args": ["-q", "fp8"]}},
    "quantization after a neutral switch": {"engine": {"args": ["--enforce-eager", "-q", "fp8"]}},
    "an unknown option": {"engine": {"args": ["--option-of-next-year"]}},
    "a dotted option": {"engine": {"args": ["--hf-overrides.rope_theta=1"]}},
    "a variable of vLLM": {"engine": {"env": [{"name": "VLLM_ATTENTION_BACKEND", "value": "X"}]}},
    "a variable from a secret": {"engine": {"env": [{"name": "VLLM_X", "valueFrom": VALUE_FROM}]}},
    "a variable of the cache server": {"cache": {"env": [{"name": "LMCACHE_X", "value": "1"}]}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_can_change_kv_changes_the_identity(change: str) -> None:
    assert identity(target(**CHANGES[change])) != SAME


def test_no_two_of_these_changes_share_an_identity() -> None:
    found = [
        identity(target(**spec)) for name, spec in CHANGES.items() if name != "quantization after a neutral switch"
    ]

    assert len(set(found)) == len(found)


def test_the_operators_default_images_count() -> None:
    newer = Settings(engine_image="engine:2", cache_server_image="cache:1", router_image="router:1")

    assert identity(target(newer)) != SAME


@pytest.mark.parametrize(
    "spec",
    [
        {"engine": {"replicas": 7}},
        {"engine": {"kvCacheMemory": "2Gi"}},
        {"engine": {"resources": {"limits": {"memory": "9Gi"}}}},
        {"engine": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}},
        {"cache": {"memory": "64Gi"}},
        {"cache": {"cpu": "4"}},
        {"router": {"policy": "RoundRobin", "replicas": 5}},
        {"model": MODEL | {"servedName": "other"}},
        {"networkPolicy": "Disabled"},
        {"engine": {"env": [{"name": "HF_TOKEN", "value": "x"}]}},
    ],
)
def test_what_can_not_change_kv_keeps_the_cache(spec: dict[str, Any]) -> None:
    assert identity(target(**spec)) == SAME


def test_another_router_image_keeps_the_cache() -> None:
    newer = Settings(engine_image="engine:1", cache_server_image="cache:1", router_image="router:2")

    assert identity(target(newer)) == SAME


@pytest.mark.parametrize("name", sorted(NEUTRAL_ARGS))
def test_neutral_options_keep_the_cache_in_every_spelling(name: str) -> None:
    assert of_args(name) == SAME
    assert of_args(f"{name}=1") == SAME
    assert of_args(name, "-1") == SAME
    assert of_args(name.replace("-", "_").replace("__", "--", 1), "1", "2") == SAME


@pytest.mark.parametrize("name", sorted(NEUTRAL_ENV))
def test_neutral_variables_keep_the_cache(name: str) -> None:
    assert of_env(name) == SAME


def test_a_value_counts_however_it_is_attached() -> None:
    assert of_args("--seed", "1") == of_args("--seed=1")
    assert of_args("--seed", "1") != of_args("--seed", "2")
    assert of_args("--hf_overrides", "{}") == of_args("--hf-overrides={}")
    assert of_args("--kv-cache-dtype=") != of_args("--kv-cache-dtype")


def test_the_last_of_two_equal_options_wins_so_their_order_counts() -> None:
    assert of_args("--seed=1", "--seed=2") != of_args("--seed=2", "--seed=1")


def test_a_variable_counts_for_the_part_that_has_it() -> None:
    env = [{"name": "LMCACHE_X", "value": "1"}]

    assert identity(target(engine={"env": env})) != identity(target(cache={"env": env}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["--quantization", "fp8"], ["-q", "awq"]),
        (["--calculate-kv-scales"], ["--no-calculate-kv-scales"]),
        (["--hf-overrides", '{"a":1}'], ["--hf-overrides.a=2"]),
    ],
)
def test_the_last_of_two_spellings_of_an_option_wins_so_their_order_counts(one: list[str], other: list[str]) -> None:
    assert of_args(*one, *other) != of_args(*other, *one)


def test_a_neutral_option_may_stand_anywhere() -> None:
    assert of_args("--enforce-eager", "--seed=1") == of_args("--seed=1", "--enforce-eager") == of_args("--seed=1")


@pytest.mark.parametrize("name", ["PYTHONPATH", "NVIDIA_TF32_OVERRIDE", "FLASHINFER_X", "CUBLAS_WORKSPACE_CONFIG"])
def test_a_variable_counts_unless_it_is_known_to_be_neutral(name: str) -> None:
    assert identity(target(engine={"env": [{"name": name, "value": "1"}]})) != identity(target())


@pytest.mark.parametrize("name", ["HF_TOKEN", "https_proxy", "OMP_NUM_THREADS", "OTEL_SERVICE_NAME"])
def test_a_neutral_variable_does_not_count(name: str) -> None:
    assert identity(target(engine={"env": [{"name": name, "value": "1"}]})) == identity(target())


@given(st.dictionaries(st.from_regex(r"VLLM_[A-Z]{1,5}", fullmatch=True), st.text(max_size=5), max_size=4))
def test_the_order_of_variables_says_nothing(env: dict[str, str]) -> None:
    entries = [{"name": name, "value": value} for name, value in env.items()]

    assert identity(target(engine={"env": entries})) == identity(target(engine={"env": entries[::-1]}))
