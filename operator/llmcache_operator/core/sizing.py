"""How much each part of the cache holds, in bytes and in tokens, with the arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from llmcache_operator.api.cache import Topology
from llmcache_operator.api.spec import KvType
from llmcache_operator.core.quantity import GIBI, MEBI, to_bytes

if TYPE_CHECKING:
    from llmcache_operator.api.cache import Capacity
    from llmcache_operator.api.spec import ServiceSpec

DEFAULT_BYTES = 4 * GIBI
LEAST_BYTES, MOST_BYTES = 128 * MEBI, 64 << 40
# LMCache 0.5.6 looks once a second whether more than this part of a server's memory is used, and evicts a fifth of its
# chunks then (--eviction-trigger-watermark, -ratio). What comes in meanwhile has to fit in beside: a prompt is loaded
# from an L2 as a whole or not at all, and counts as a miss where it does not fit in (reproduced; `l1_oom`).
MOST_FILL, LEAST_FILL = Fraction(4, 5), Fraction(1, 2)
# What Valkey needs besides values of megabytes is little; the rest is fragmentation inside maxmemory.
_BESIDE_VALUES = Fraction(19, 20)
# Bytes of a value's header (Redis 7.0: MEMORY USAGE is a size class of jemalloc and 48 bytes of key and entry).
_HEADER = 18
_SIZES = {KvType.BFLOAT16: 2, KvType.FLOAT16: 2, KvType.FLOAT32: 4, KvType.FP8: 1}


@dataclass(frozen=True, slots=True)
class Sizing:
    """Sizes in bytes: of the memory of each LMCache server, of Valkey's (None without one), of a token's KV.

    `fill`: the part of a server's memory beyond which it evicts. `servers`: how many there are, as far as the spec
    says. `kv_bytes`: cached KV that fits in, each token once; an L2 of unknown size does not count. `tokens`: the same
    in tokens, where the size of a token is known.
    """

    server_bytes: int
    fill: Fraction
    valkey_bytes: int | None
    token_bytes: int | None
    servers: int
    kv_bytes: int
    tokens: int | None


def sizing(spec: ServiceSpec) -> Sizing:
    """Return the sizes that a spec asks for."""
    token, servers = token_bytes(spec), _servers(spec)
    wanted = token * tokens_wanted(spec.cache.capacity) if token and spec.cache.capacity else None
    if wanted is None:
        server = to_bytes(spec.cache.memory) if spec.cache.memory else DEFAULT_BYTES
    else:
        server = max(LEAST_BYTES, _holding(Fraction(wanted, servers), _coming(spec)))
    fill = _fill(server, _coming(spec))
    valkey = _valkey_bytes(spec, wanted)
    in_valkey = 0 if valkey is None else int(valkey * valkey_fill(spec) / _shrunk(spec))
    kv = max(int(server * servers * fill), in_valkey)
    return Sizing(server, fill, valkey, token, servers, kv, kv // token if token else None)


def token_bytes(spec: ServiceSpec) -> int | None:
    """Return the bytes of one token's KV over all GPUs of an engine; None where the model's shape is not given.

    With more GPUs than KV heads each GPU holds a whole head (vLLM 0.32, vllm/config/model.py, get_num_kv_heads).
    """
    kv = spec.model.kv
    if kv is None:
        return None
    heads = kv.heads if kv.planes == 1 else max(kv.heads, spec.engine.tensor_parallel_size)
    return kv.planes * kv.layers * heads * kv.head_dim * _SIZES[kv.dtype]


def tokens_wanted(capacity: Capacity) -> int:
    """Return the tokens that a capacity comes to."""
    if capacity.tokens is not None:
        return to_bytes(str(capacity.tokens))
    return (capacity.users or 1) * to_bytes(str(capacity.tokens_per_user or 1))


def valkey_fill(spec: ServiceSpec) -> Fraction:
    """Return the part of Valkey's memory that values take up.

    Each lies in a piece of one of jemalloc's sizes, four for each doubling: a value of 32 MiB, which needs a few bytes
    more, in one of 40 (measured, Redis 7.0 with jemalloc 5.3). Of values of unknown size, it is taken for the worst.
    """
    token = token_bytes(spec)
    if token is None:
        return _BESIDE_VALUES * Fraction(4, 5)
    kv = spec.model.kv
    parts = spec.engine.tensor_parallel_size if kv and kv.planes > 1 else 1
    value = math.ceil(Fraction(token * spec.cache.chunk_size, parts) * _shrunk(spec))
    return _BESIDE_VALUES * Fraction(value, _allocated(value + _HEADER))


def _allocated(size: int) -> int:
    """Return the size of the piece of memory that jemalloc gives for so many bytes, more than some 64."""
    step = 1 << ((size - 1).bit_length() - 3)
    return -(-size // step) * step


def problem(spec: ServiceSpec) -> str | None:
    """Return why the sizes can't be, with the arithmetic; None where they can."""
    sizes = sizing(spec)
    if sizes.server_bytes > MOST_BYTES:
        return f"cache.capacity comes to {in_gib(sizes.server_bytes)} for each LMCache server: at most 64Ti can be had"
    least = sizes.servers * (spec.engine.max_model_len or 0)
    if spec.cache.capacity and (wanted := tokens_wanted(spec.cache.capacity)) < least:
        return (
            f"cache.capacity is {wanted:,} tokens in {sizes.servers} LMCache servers: each would hold fewer than one "
            f"prompt of engine.maxModelLen = {spec.engine.max_model_len:,}. Ask for {least:,} tokens or more, or for "
            "shorter prompts"
        )
    usable, longest = int(sizes.server_bytes * MOST_FILL), _longest(spec)
    if sizes.token_bytes and usable < longest:
        return (
            f"each LMCache server has {in_gib(sizes.server_bytes)}, of which {float(MOST_FILL):.0%} are used at most "
            f"before it evicts: at {sizes.token_bytes:,} bytes a token that holds {usable // sizes.token_bytes:,} "
            f"tokens, fewer than one prompt of engine.maxModelLen = {spec.engine.max_model_len:,}. Give it "
            f"{in_gib(_mebis(longest / MOST_FILL))} or more, with cache.memory; "
            f"{in_gib(_mebis(_coming(spec) / (1 - LEAST_FILL)))} lets one such prompt come in while another is held"
        )
    return None


def in_gib(size: int) -> str:
    """Return a size for people."""
    return f"{size / GIBI:.2f} GiB"


def _servers(spec: ServiceSpec) -> int:
    """Return how many servers hold different KV; of nodes and of engines that others scale, one is sure."""
    return max(1, spec.engine.replicas or 1) if spec.cache.topology is Topology.PER_ENGINE else 1


def _longest(spec: ServiceSpec) -> int:
    """Return the bytes of the longest prompt; 0 where they are not known."""
    return (token_bytes(spec) or 0) * (spec.engine.max_model_len or 0)


def _coming(spec: ServiceSpec) -> int:
    """Return the bytes that the longest prompt takes while it is loaded from an L2.

    What is compressed or encrypted is loaded beside first, all of it (lmcache 0.5.6, l2_adapters/serde_wrapper.py).
    """
    l2 = spec.cache.l2
    coded = l2 is not None and bool(l2.compression or l2.encryption_key_secret_ref)
    return math.ceil(_longest(spec) * (1 + (_shrunk(spec) if coded else 0)))


def _fill(server: int, coming: int) -> Fraction:
    """Return the part of a server's memory beyond which it evicts, so that the longest prompt fits in beside."""
    return min(MOST_FILL, max(LEAST_FILL, 1 - Fraction(coming, server)))


def _holding(wanted: Fraction, coming: int) -> int:
    """Return the memory of a server that holds so many bytes before it evicts: `_fill` the other way round."""
    return _mebis(max(wanted / MOST_FILL, wanted + coming, coming / (1 - LEAST_FILL)))


def _valkey_bytes(spec: ServiceSpec, wanted: int | None) -> int | None:
    l2 = spec.cache.l2
    managed = l2.valkey.managed if l2 and l2.valkey else None
    if managed is None:
        return None
    if managed.memory:
        return to_bytes(managed.memory)
    return DEFAULT_BYTES if wanted is None else max(LEAST_BYTES, _mebis(wanted * _shrunk(spec) / valkey_fill(spec)))


def _shrunk(spec: ServiceSpec) -> Fraction:
    """Return the part of its size that KV has in the L2: FP8 takes one byte for each number."""
    l2, kv = spec.cache.l2, spec.model.kv
    compressed = l2 is not None and l2.compression is not None
    return Fraction(1, _SIZES[kv.dtype]) if compressed and kv else Fraction(1)


def _mebis(size: Fraction) -> int:
    """Return a size rounded up to whole mebibytes."""
    return math.ceil(size / MEBI) * MEBI
