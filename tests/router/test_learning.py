"""What is learned from the engines' metrics."""

import pytest

from llmcache_runtime.policy.prefix_aware import CHUNK_TOKENS
from llmcache_runtime.router.forward import ForwardSettings
from llmcache_runtime.router.reports import parse
from tests.fakes.engine import Lru
from tests.router.conftest import Stack, StackMaker, chat, until

CHAT = "/v1/chat/completions"
EXPOSITION = b"""# HELP vllm:prompt_tokens_by_source_total x
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="smol",source="local_compute"} 10369.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="smol",source="local_cache_hit"} 7264.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="smol",source="external_kv_transfer"} 13312.0
vllm:prompt_tokens_by_source_created{engine="0",model_name="smol",source="local_compute"} 1.795e+09
vllm:external_prefix_cache_queries_total{engine="0",model_name="smol"} 23681.0
vllm:cache_config_info{block_size="32",engine="0",kv_cache_size_tokens="46592",num_gpu_blocks="1456"} 1.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="smol"} 20.5
vllm:time_to_first_token_seconds_count{engine="0",model_name="smol"} 18.0
process_start_time_seconds 1.79551621045e+09
process_cpu_seconds_total 10.45
"""


def test_a_report_of_vllm_is_read() -> None:
    report = parse(EXPOSITION)

    assert (report.computed, report.held, report.reloaded, report.queried) == (10369, 7264, 13312, 23681)
    assert (report.capacity, report.requests, report.seconds) == (46592, 18, 20.5)
    assert report.started == 1.79551621045e9
    assert report.shares is True


@pytest.mark.parametrize("text", [b"", b"garbage", b"vllm:unknown 5", b"process_cpu_seconds_total nan"])
def test_what_is_not_said_is_zero(text: bytes) -> None:
    assert parse(text) == parse(b"")
    assert parse(text).shares is None


def test_what_is_malformed_is_told() -> None:
    with pytest.raises(ValueError, match="could not convert"):
        parse(b"process_start_time_seconds five")


async def tiers(stack: Stack, text: str) -> str:
    answer = await stack.client.post(CHAT, json=chat(text))
    return answer.headers["x-llmcache-tiers"]


async def test_the_size_of_a_cache_bounds_what_its_engine_is_thought_to_hold(make_stack: StackMaker) -> None:
    stack = await make_stack(1, metrics_interval=0.05, forward=ForwardSettings(debug_headers=True), cache_tokens=2048)
    policy = stack.prefix_aware
    await until(lambda: policy._memory("engine-0").prefixes._capacity == 2048 // CHUNK_TOKENS)
    await tiers(stack, "x" * 40_000)

    assert (await tiers(stack, "x" * 40_000)).startswith("engine=2048")


@pytest.mark.parametrize("shared", [False, True])
async def test_reloads_have_a_price_only_where_there_is_a_shared_tier(make_stack: StackMaker, *, shared: bool) -> None:
    stack = await make_stack(1, metrics_interval=0.05, shared=Lru(1000) if shared else None)
    policy = stack.prefix_aware
    for i in range(3):
        await stack.client.post(CHAT, json=chat(f"{i} " * 4000))
    if shared:
        await until(lambda: 0 < policy.prices.reload_ratio < 1 and bool(stack.router._knowledge.learning._reports))
    else:
        await until(lambda: policy.prices.reload_ratio == 1.0)


async def test_an_engine_that_restarted_unseen_is_found_out(make_stack: StackMaker) -> None:
    stack = await make_stack(1, metrics_interval=0.05, forward=ForwardSettings(debug_headers=True))
    await tiers(stack, "x" * 4096)
    held = await tiers(stack, "x" * 4096)
    await until(lambda: bool(stack.router._knowledge.learning._reports))
    stack.engines[0].engine.started += 100
    await until(lambda: len(stack.prefix_aware._memory("engine-0").prefixes) == 0)

    assert held.startswith("engine=1024")
    assert (await tiers(stack, "x" * 4096)).startswith("engine=0")


async def test_a_first_token_counts_for_the_tier_that_most_of_the_prompt_was_expected_from(
    make_stack: StackMaker,
) -> None:
    stack = await make_stack(1)
    count = 'llmcache_router_time_to_first_token_seconds_count{{engine="engine-0",expected="{}"}}'
    for _ in range(3):
        await stack.client.post(CHAT, json=chat("x" * 4096, stream=True))

    counts = {tier: await stack.metric(count.format(tier)) for tier in ("engine", "shared", "compute")}
    assert counts == {"engine": 2, "shared": 0, "compute": 1}
