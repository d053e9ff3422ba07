"""What a cache of so many tokens comes to, from a model's config.json: `make sizing MODEL=path/to/config.json`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table

from llmcache_operator.api.cache import Topology
from llmcache_operator.api.spec import ServiceSpec
from llmcache_operator.core.children.engine import shared_memory_size
from llmcache_operator.core.children.server import memory_limit, on_its_way
from llmcache_operator.core.children.valkey import memory_limit as valkey_limit
from llmcache_operator.core.sizing import MOST_FILL, in_gib, problem, sizing, tokens_wanted, valkey_fill

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmcache_operator.core.sizing import Sizing


def main(argv: Sequence[str] | None = None) -> None:
    """Print it; what can't be is told with exit status 1."""
    flags = _parser().parse_args(argv)
    try:
        spec = asked(flags)
        made = table(spec, sizing(spec))
    except KeyError as error:
        sys.exit(f"{flags.model} has no {error}: give the config.json of a model that generates text")
    except (OSError, ValueError) as error:
        sys.exit(f"{flags.model}: {error}")
    console = Console()
    console.print(made)
    console.print(for_the_resource(spec), highlight=False)
    if spec.engine.max_model_len is None:
        console.print("How long a prompt may be is not known, so no room is kept for one: give --max-model-len.")
    if unfit := problem(spec):
        sys.exit(unfit)


def shape_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return `model.kv` from a config.json of Hugging Face; of a model for text and images, the part for text.

    Raises KeyError where it names no layers or heads.
    """
    text = config.get("text_config", config)
    found: dict[str, Any] = {"layers": text["num_hidden_layers"]}
    if "kv_lora_rank" in text:
        found |= {"heads": 1, "headDim": text["kv_lora_rank"] + text["qk_rope_head_dim"], "planes": 1}
    else:
        heads = text["num_attention_heads"]
        found["heads"] = text.get("num_key_value_heads") or heads
        found["headDim"] = text.get("head_dim") or text["hidden_size"] // heads
    dtype = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype")
    return found | ({"dtype": dtype} if dtype in ("float16", "float32") else {})


def asked(flags: argparse.Namespace) -> ServiceSpec:
    """Return the spec that the flags come to."""
    path = flags.model / "config.json" if flags.model.is_dir() else flags.model
    kv = shape_of(json.loads(path.read_text()))
    users = {"users": flags.users, "tokensPerUser": flags.tokens_per_user}
    capacity = {"tokens": flags.tokens} if flags.tokens else users
    cache: dict[str, Any] = {"topology": flags.topology, "capacity": capacity}
    if flags.valkey:
        cache["l2"] = {"valkey": {"managed": {}}} | ({"compression": "FP8"} if flags.fp8 else {})
    elif flags.fp8:
        raise ValueError("--fp8 compresses what is in Valkey: give --valkey, too")
    engine = {"replicas": flags.replicas, "tensorParallelSize": flags.tensor_parallel_size}
    engine |= {"maxModelLen": flags.max_model_len} if flags.max_model_len else {}
    model = {"uri": "pvc://model", "kv": kv}
    return ServiceSpec.model_validate({"model": model, "engine": engine, "cache": cache})


def table(spec: ServiceSpec, sizes: Sizing) -> Table:
    """Return the arithmetic for people."""
    kv = spec.model.kv
    assert kv is not None
    assert sizes.token_bytes is not None
    assert spec.cache.capacity is not None
    tokens = tokens_wanted(spec.cache.capacity)
    made = Table("what", "how", "size", title=f"{tokens:,} tokens, {spec.cache.topology.value}")
    made.columns[2].justify = "right"
    made.add_row(
        "a token's KV",
        f"{kv.planes} x {kv.layers} layers x {kv.heads} heads x {kv.head_dim} x {kv.dtype.value}",
        f"{sizes.token_bytes:,} bytes",
    )
    made.add_row("all tokens", f"{tokens:,} x {sizes.token_bytes:,}", in_gib(tokens * sizes.token_bytes))
    made.add_row(
        "memory of each LMCache server",
        f"all tokens / {sizes.servers} servers{_room(sizes)}",
        in_gib(sizes.server_bytes),
    )
    for row in _containers(spec, sizes):
        made.add_row(*row)
    if sizes.valkey_bytes:
        part = f"all tokens{' / 2 as FP8' if spec.cache.l2 and spec.cache.l2.compression else ''}"
        how = f"{part} / {float(valkey_fill(spec)):.0%}, which values fill of it"
        made.add_row("Valkey's maxmemory", how, in_gib(sizes.valkey_bytes))
        limit = valkey_limit(sizes.valkey_bytes, persistent=False)
        made.add_row("its container's limit", "a quarter and 256 MiB more", in_gib(limit))
    made.add_row("tokens that fit in", "", f"{sizes.tokens:,}")
    return made


def _room(sizes: Sizing) -> str:
    """Return what is added to the tokens that a server holds."""
    beside = ", and room for the longest prompt:" if sizes.fill < MOST_FILL else " /"
    return f"{beside} {float(sizes.fill):.0%}, at which it evicts"


def _containers(spec: ServiceSpec, sizes: Sizing) -> Iterator[tuple[str, str, str]]:
    """Yield what the pods ask for because of the cache."""
    memory, most = memory_limit(sizes.server_bytes), "its container's memory, request and limit"
    if spec.cache.topology is Topology.SHARED:
        yield "its container's memory request", "10 % and 1 GiB more", in_gib(memory)
        limit = memory + on_its_way(sizes.server_bytes)
        yield "its container's memory limit", "as much again, 2 GiB at least, for KV on its way", in_gib(limit)
        return
    yield most, "10 % and 1 GiB more", in_gib(memory)
    if spec.cache.topology is Topology.PER_ENGINE:
        shared = shared_memory_size(sizes.server_bytes)
        yield "shared memory of each engine's pod (/dev/shm)", "twice that memory and 256 MiB", in_gib(shared)
        # One page counts once, for whichever container touched it first.
        yield "added to each engine's memory limit", "for shared memory that it fills", in_gib(sizes.server_bytes)
        yield "all that a node keeps free for it", "the container's; the rest are limits", in_gib(memory)


def for_the_resource(spec: ServiceSpec) -> str:
    """Return what was asked for as YAML."""
    asked = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    del asked["model"]["uri"]
    asked["model"]["kv"] = spec.model.kv.model_dump(mode="json", by_alias=True) if spec.model.kv else None
    return f"For the resource:\n{yaml.safe_dump({'spec': asked}, sort_keys=False)}".rstrip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make sizing", description=__doc__)
    parser.add_argument("model", type=Path, help="a model's config.json, or the folder that holds it")
    parser.add_argument("--tokens", help="tokens that the cache is to hold, such as 2M")
    parser.add_argument("--users", type=int, default=100, help="or users whose conversations stay (default: 100)")
    parser.add_argument("--tokens-per-user", default="8k", help="tokens of each of them (default: 8k)")
    parser.add_argument("--topology", choices=("Shared", "PerEngine", "NodeLocal"), default="Shared")
    parser.add_argument("--replicas", type=int, default=1, help="engines (default: 1)")
    parser.add_argument("--tensor-parallel-size", type=int, default=1, help="GPUs of an engine (default: 1)")
    parser.add_argument("--max-model-len", type=int, help="tokens of the longest prompt: engine.maxModelLen")
    parser.add_argument("--valkey", action="store_true", help="with an L2 in Valkey")
    parser.add_argument("--fp8", action="store_true", help="compress what is in Valkey: half as large")
    return parser


if __name__ == "__main__":
    main()
