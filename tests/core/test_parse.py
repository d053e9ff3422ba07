from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmcache_operator.core.counts import RouterSample
from llmcache_operator.core.parse import cache_sample, engine_sample, router_sample, version
from llmcache_operator.core.values import CacheSample, EngineSample

FIXTURES = Path(__file__).parents[1] / "fixtures"
ENGINE_A = (FIXTURES / "vllm-engine-a.txt").read_text()
ENGINE_B = (FIXTURES / "vllm-engine-b.txt").read_text()
LMCACHE = (FIXTURES / "lmcache-server.txt").read_text()
MODELS = json.dumps({"object": "list", "data": [{"id": "smol", "root": "/llmcache/run/abc-123", "parent": None}]})
TOKENS = "vllm:prompt_tokens_by_source_total"


def parsed(metrics: str, models: str | None = None) -> EngineSample:
    return engine_sample("chat-engine-0", "uid-0", 1000.0, metrics, models)


def without(metrics: str, series: str) -> str:
    return "\n".join(line for line in metrics.splitlines() if not line.startswith(series)) + "\n"


def ranks(*values: tuple[int, int, int], waiting: int = 0) -> str:
    """Metrics of a data-parallel engine, as vLLM labels its ranks."""
    lines = []
    for rank, counts in enumerate(values):
        for source, count in zip(("local_compute", "local_cache_hit", "external_kv_transfer"), counts, strict=True):
            labels = f'engine="{rank}",model_name="m",source="{source}"'
            lines += [f"{TOKENS}{{{labels}}} {count}.0"]
            lines += [f"vllm:prompt_tokens_by_source_created{{{labels}}} {100.0 + rank}"]
        lines += [
            f'vllm:num_requests_running{{engine="{rank}"}} 1.0',
            f'vllm:num_requests_waiting{{engine="{rank}"}} {waiting}',
        ]
    return "\n".join(lines)


def test_a_real_engine_is_read_whole() -> None:
    found = parsed(ENGINE_A, MODELS)

    assert (found.computed, found.engine_hits, found.server_hits) == (17507, 18560, 32)
    assert (found.running, found.waiting) == (0, 0)
    assert found.started_at == pytest.approx(1.7955162448870878e9)
    assert found.model_path == "/llmcache/run/abc-123"


def test_an_engine_that_took_from_lmcache_shows_it() -> None:
    found = parsed(ENGINE_B)

    assert (found.computed, found.engine_hits, found.server_hits) == (10369, 7264, 13312)
    assert found.model_path is None


def test_a_real_lmcache_server_is_read_whole() -> None:
    assert cache_sample(1000.0, LMCACHE) == CacheSample(
        at=1000.0,
        usage_ratio=0.252685546875,
        used_bytes=542638080,
        evicted_chunks=0,
        started_at=pytest.approx(1.79551620531e9),
        written_chunks=92,
        lookups=40,
        asked=60928,
        found=37376,
    )


def test_what_a_verdict_needs_is_read_of_a_real_engine() -> None:
    found = parsed(ENGINE_B)

    assert (found.served, found.ended, found.lookups) == (18, 18, 18)
    assert found.busy == pytest.approx(20.42, abs=0.01)
    assert (found.own_found, found.server_found) == (7264, 13312)
    assert (found.block_size, found.cache_dtype, found.queued) == ("32", "auto", 0)
    assert found.prompt_tokens == found.computed + found.engine_hits + found.server_hits
    assert found.prefilled == found.computed
    assert 0 < found.prefilling < found.busy


def test_loads_are_read_as_the_connector_counts_them() -> None:
    labels = '{engine="0",model_name="smol"}'
    counted = f"vllm:llmcache_load_seconds_total{labels} 2.5\nvllm:llmcache_load_tokens_total{labels} 13312.0\n"

    found = parsed(ENGINE_B + counted)

    assert (found.loaded, found.loading) == (13312, 2.5)


@pytest.mark.parametrize(("chunk", "short"), [(1, 0), (256, 0), (1024, 2), (2048, 20), (5001, 22), (100_000, 22)])
def test_prompts_are_short_that_are_in_buckets_below_a_chunk(chunk: int, short: int) -> None:
    assert engine_sample("e", "u", 0.0, ENGINE_A, chunk=chunk).short == short


STATUS = {
    "chunk_size": 256,
    "non_cuda_context_meta": {"7": {"model_name": "/m", "world_size": 1}},
    "cache_context_meta": {"8": {"world_size": 2}, "9": {"world_size": 2}},
    "storage_manager": {"l1_managers": {"_default": {"total_object_count": 92}}},
}


def test_the_status_of_an_lmcache_server_tells_engines_chunk_size_and_objects() -> None:
    found = cache_sample(0.0, LMCACHE, json.dumps(STATUS))

    assert (found.registered, found.chunk_size, found.objects) == (2.0, 256, 92)


@pytest.mark.parametrize(
    "status", ["", "[]", "null", "{", "[" * 100_000, '{"chunk_size": "x", "non_cuda_context_meta": 1}', "\x00"]
)
def test_a_status_that_says_nothing_spoils_no_sample(status: str) -> None:
    assert cache_sample(0.0, LMCACHE, status) == cache_sample(0.0, LMCACHE)


def test_look_ups_of_engines_that_the_server_does_not_know_are_told_apart() -> None:
    exits = 'lmcache_mp_lookup_early_exit_requests_total{reason="%s",model_name="m"} %d\n'
    found = cache_sample(0.0, LMCACHE + exits % ("no_gpu_context", 3) + exits % ("empty_chunk_hashes", 5))

    assert found.unknown_lookups == 3


def test_a_router_tells_picks_and_where_it_expected_tokens() -> None:
    tiers = "".join(
        f'llmcache_router_expected_prompt_tokens_total{{tier="{tier}"}} {count}\n'
        for tier, count in (("engine", 30), ("shared", 20), ("compute", 10))
    )
    metrics = 'llmcache_router_picks_total{reason="prefix"} 4\nllmcache_router_picks_total{reason="home"} 1\n' + tiers

    assert router_sample("r", "u", 1.0, metrics) == RouterSample("r", "u", 1.0, 5, 30, 20, 10)
    assert router_sample("r", "u", 1.0, "").picks == 0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('{"version": "0.32.0"}', "0.32.0"),
        ('"0.5.6"', "0.5.6"),
        ("{}", None),
        ("[" * 100_000, None),
        ("<html>", None),
        ('""', None),
        (json.dumps("9" * 65), None),
    ],
)
def test_versions_are_read_or_unknown(answer: str, told: str | None) -> None:
    assert version(answer) == told


def test_data_parallel_ranks_add_up() -> None:
    found = parsed(ranks((10, 20, 30), (1, 2, 3), waiting=4))

    assert (found.computed, found.engine_hits, found.server_hits, found.running, found.waiting) == (11, 22, 33, 2, 8)


def test_an_engine_is_as_old_as_its_oldest_counter() -> None:
    """A series that appears later, such as a rank's, must not look like a restart."""
    assert parsed(ranks((1, 1, 1))).started_at == parsed(ranks((1, 1, 1), (1, 1, 1))).started_at == 100.0


def test_an_engine_that_does_not_tell_its_birth_is_still_measured() -> None:
    found = parsed(without(ENGINE_A, "vllm:prompt_tokens_by_source_created"))

    assert found.started_at is None
    assert found.computed == 17507


@pytest.mark.parametrize(
    "series", [TOKENS, f'{TOKENS}{{engine="0",model_name="smol",source="local_c', "vllm:num_requests_running"]
)
def test_a_missing_series_is_named(series: str) -> None:
    with pytest.raises(ValueError, match=r"hold no vllm:.*is this a vLLM of 0\.32 or later"):
        parsed(without(ENGINE_A, series))


def test_a_server_that_is_no_lmcache_is_named() -> None:
    with pytest.raises(ValueError, match="is this an LMCache server"):
        cache_sample(1.0, ENGINE_A)
    with pytest.raises(ValueError, match="is this a vLLM"):
        parsed(LMCACHE)


def test_evictions_that_never_happened_are_none() -> None:
    assert cache_sample(1.0, without(LMCACHE, "lmcache_mp_l1_evicted_chunks_total")).evicted_chunks == 0


def test_only_chunks_for_which_there_was_no_room_count_as_such() -> None:
    name = "lmcache_mp_l2_prefetch_failure_chunks_total"
    told = "".join(f'{name}{{model_name="/m",reason="{why}"}} {n}.0\n' for why, n in (("l1_oom", 27), ("not_found", 3)))

    assert cache_sample(1.0, LMCACHE).no_room == 0
    assert cache_sample(1.0, LMCACHE + told).no_room == 27


STORES = """
lmcache_mp_l2_store_submitted_objects_chunks_total{cache_salt=""} 30.0
lmcache_mp_l2_store_submitted_objects_chunks_total{cache_salt="a"} 2.0
lmcache_mp_l2_store_completed_objects_chunks_total{cache_salt=""} 10.0
lmcache_mp_l2_store_completed_requests_total{l2_name="fs"} 5.0
lmcache_mp_l2_store_completed_requests_total{l2_name="resp"} 4.0
lmcache_mp_l2_store_throughput_GB_per_second_count{l2_name="fs"} 2.0
"""


def test_stores_are_counted_by_tier_and_one_that_is_given_up_is_told() -> None:
    adapters = [
        {"type": "S3L2Adapter", "is_healthy": False},
        {"type": "FSL2Adapter", "is_healthy": True},
        {"type": "RESPL2Adapter", "is_healthy": False},
    ]
    told = cache_sample(1.0, LMCACHE + STORES, json.dumps({"storage_manager": {"l2_adapters": adapters[:2]}})).l2

    assert (told.submitted, told.stored) == (32, 10)
    assert (told.ended, told.wrote) == ({"fs": 5}, {"fs": 2})
    assert told.given_up == {"s3"}
    whole = json.dumps({"storage_manager": {"l2_adapters": adapters}})
    assert cache_sample(1.0, LMCACHE, whole).l2.given_up == {"s3"}, "guards tell of Valkey"


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1e999", "1e308"])
def test_a_value_that_can_not_be_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match="prompt_tokens_by_source_total is"):
        parsed(ENGINE_A.replace("17507.0", value))
    with pytest.raises(ValueError, match="l1_usage_ratio is"):
        cache_sample(1.0, LMCACHE.replace("0.252685546875", value))


@pytest.mark.parametrize(
    "text", ["", "\n", "<html>", TOKENS, f"{TOKENS} x", f"{TOKENS}{{", f'{TOKENS}{{a="', f"{TOKENS}{{}} 1 2 3 4"]
)
def test_garbage_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="the metrics"):
        parsed(text)


lines = st.lists(
    st.builds(
        str.__add__,
        st.sampled_from([TOKENS, "vllm:num_requests_running", "lmcache_mp_l1_usage_ratio"]),
        st.text(max_size=40),
    )
)


@given(lines | st.lists(st.text(max_size=60)))
@example([f"{TOKENS}{{source=}} 1"])
def test_no_text_breaks_the_parser_in_another_way(text: list[str]) -> None:
    for read in (parsed, lambda metrics: cache_sample(1.0, metrics)):
        with suppress(ValueError):
            read("\n".join(text))


@given(st.data())
def test_a_scrape_cut_off_anywhere_is_whole_or_refused(data: st.DataObject) -> None:
    text = ranks((123, 456, 789))
    cut = text[: data.draw(st.integers(0, len(text)))]
    try:
        found = parsed(cut)
    except ValueError:
        return

    assert found.computed == 123


@pytest.mark.parametrize(
    "models",
    ["", "{}", "[]", "null", '{"data": 1}', '{"data": ["x"]}', '{"data": [{"id": "m"}]}', "[" * 100_000],
)
def test_an_unreadable_list_of_models_is_a_value_error(models: str) -> None:
    with pytest.raises(ValueError, match="/v1/models"):
        parsed(ENGINE_A, models)


def test_adapters_are_not_taken_for_the_base_model() -> None:
    cards = [{"id": "lora", "root": "/lora", "parent": "smol"}, {"id": "smol", "root": "/base", "parent": None}]

    assert parsed(ENGINE_A, json.dumps({"data": cards})).model_path == "/base"
    assert parsed(ENGINE_A, '{"data": []}').model_path is None
