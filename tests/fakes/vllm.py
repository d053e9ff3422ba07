"""What a fake vLLM engine does, without its HTTP face: caches, the time that prefills take, metrics, faults.

A token is four characters. A prompt costs `prefill` tokens a second for what is in no cache, `reload` for what only
the shared tier holds; prefills of an engine go one after another. Metric names are those of vLLM 0.32.
"""

import asyncio
import hashlib
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

BLOCK_TOKENS = 16
CHUNK_TOKENS = 256
TOKEN_CHARS = 4


class Fault(StrEnum):
    """What is wrong with an engine."""

    NONE = "none"
    HANG = "hang"  # accepts, never answers, probes included
    SLOW = "slow"  # ten times slower
    DIE = "die"  # cuts the stream after three tokens, in the middle of an event
    REFUSE = "refuse"  # admission refused: 503
    GARBAGE = "garbage"  # answers what is not HTTP
    STORES_NOTHING = "stores nothing"  # nothing that it computes reaches the shared tier
    SPOILS_KV = "spoils kv"  # what it stores in the shared tier is something else
    STUCK = "stuck"  # its counters of prompt tokens stand still


class Lru:
    """A bounded set, least recently used out first, of items that each carry whose KV they are."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: OrderedDict[bytes, str] = OrderedDict()
        self.stored: Counter[str] = Counter()
        """Chunks that engines stored, by their salt."""

    def matched(self, chain: list[bytes]) -> int:
        """Count leading items that are held."""
        for index, item in enumerate(chain):
            if item not in self._items:
                return index
        return len(chain)

    def touch(self, chain: list[bytes], kv: str = "") -> None:
        """Hold a chain; its tail is forgotten first. What is held already stays what it is."""
        for item in reversed(chain):
            self._items.setdefault(item, kv)
            self._items.move_to_end(item)
        while len(self._items) > self._capacity:
            self._items.popitem(last=False)

    def kv(self, item: bytes) -> str:
        """Tell whose KV an item carries."""
        return self._items[item]


def hash_chain(text: str, tokens: int, key: str = "") -> list[bytes]:
    """Hash each full block of `tokens` tokens together with what precedes it, beginning with a key."""
    size, state, chain = tokens * TOKEN_CHARS, hashlib.blake2b(key.encode(), digest_size=8), []
    for start in range(0, len(text) - size + 1, size):
        state.update(text[start : start + size].encode())
        chain.append(state.digest())
    return chain


@dataclass(frozen=True)
class Prefilled:
    """Tokens of a prompt, how many of them came from a cache, and what the answer follows from."""

    tokens: int
    cached: int
    meaning: str

    def top(self, count: int) -> dict[str, float]:
        """Return that many candidates for the next token, likeliest first, as vLLM names them by id."""
        digest = hashlib.blake2b(self.meaning.encode(), digest_size=2 * count).digest()
        ids = (int.from_bytes(digest[2 * index : 2 * index + 2]) for index in range(count))
        return {f"token_id:{token}": -0.5 - rank for rank, token in enumerate(ids)}


@dataclass
class Speeds:
    """Tokens a second."""

    prefill: float = 8000.0
    reload: float = 24000.0
    decode: float = 200.0


async def _passed(seconds: float) -> float:
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    return time.monotonic() - begun


@dataclass
class Engine:
    """One engine and what it was asked.

    Its answers follow from prompt, `weights` and the KV that it takes, and from its `accent`, which is not in KV. `key`
    is what its keys in the shared tier begin with, as LMCache's do with the model path. What it computes reaches that
    tier `store_delay` seconds later.
    """

    name: str = "engine"
    model: str = "fake"
    speeds: Speeds = field(default_factory=Speeds)
    cache_tokens: int = 200_000
    shared: Lru | None = None
    fault: Fault = Fault.NONE
    weights: str = "w1"
    key: str = ""
    tells_cached: bool = True
    accent: str = ""
    store_delay: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    down: bool = False
    accepted: int = 0
    aborted: int = 0
    running: int = 0
    waiting: int = 0
    sources: dict[str, int] = field(
        default_factory=lambda: {"local_compute": 0, "local_cache_hit": 0, "external_kv_transfer": 0}
    )
    generated: int = 0
    ttft_sum: float = 0.0
    ttft_count: int = 0
    loading: float = 0.0
    loaded: int = 0
    prefilling: float = 0.0
    prefilled: int = 0
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._cache = Lru(self.cache_tokens // BLOCK_TOKENS)
        self._prefill = asyncio.Lock()

    def clear(self) -> None:
        """Lose the cache, as a restart does."""
        self._cache = Lru(self.cache_tokens // BLOCK_TOKENS)
        self.started = time.time()

    async def prefill(self, text: str, salt: str = "") -> Prefilled:
        """Take the time that the prompt costs; tell its tokens, how many were cached, and what follows from it."""
        begun = time.monotonic()
        self.waiting += 1
        try:
            async with self._prefill:
                tokens = max(1, len(text) // TOKEN_CHARS)
                blocks, chunks = hash_chain(text, BLOCK_TOKENS, salt), hash_chain(text, CHUNK_TOKENS, self.key + salt)
                local = self._cache.matched(blocks) * BLOCK_TOKENS
                held = self.shared.matched(chunks) * CHUNK_TOKENS if self.shared else 0
                external = max(0, held - local)
                compute = tokens - local - external
                factor = 10 if self.fault is Fault.SLOW else 1
                self.loading += await _passed(factor * external / self.speeds.reload)
                self.prefilling += await _passed(factor * compute / self.speeds.prefill)
                kv = self.shared.kv(chunks[0]) if self.shared and external else self.weights
                self._cache.touch(blocks)
                self._store(chunks, salt)
        finally:
            self.waiting -= 1
        if self.fault is not Fault.STUCK:
            for source, count in zip(self.sources, (compute, local, external), strict=True):
                self.sources[source] += count
        self.loaded, self.prefilled = self.loaded + external, self.prefilled + compute
        self.ttft_sum += time.monotonic() - begun
        self.ttft_count += 1
        return Prefilled(tokens, local + external, f"{text}|{self.weights}|{kv}|{self.accent}")

    def _store(self, chunks: list[bytes], salt: str) -> None:
        shared, kv = self.shared, "garbage" if self.fault is Fault.SPOILS_KV else self.weights
        if shared is None or self.fault is Fault.STORES_NOTHING:
            return

        def arrive() -> None:
            shared.stored[salt] += len(chunks) - shared.matched(chunks)
            shared.touch(chunks, kv)

        if self.store_delay:
            asyncio.get_running_loop().call_later(self.store_delay, arrive)
        else:
            arrive()

    def external_queries(self) -> int:
        """Count the tokens asked of the shared tier; none without one."""
        return self.sources["local_compute"] + self.sources["external_kv_transfer"] if self.shared else 0

    def metrics(self) -> str:
        """Render the metrics that routers and operators read."""
        label = f'engine="0",model_name="{self.model}"'
        prompt, blocks = sum(self.sources.values()), self.cache_tokens // BLOCK_TOKENS
        lines = [
            "# TYPE process_start_time_seconds gauge",
            f"process_start_time_seconds {self.started}",
            f"vllm:num_requests_running{{{label}}} {self.running}",
            f"vllm:num_requests_waiting{{{label}}} {self.waiting}",
            f"vllm:kv_cache_usage_perc{{{label}}} 0.5",
            f"vllm:prompt_tokens_total{{{label}}} {prompt}",
            f"vllm:generation_tokens_total{{{label}}} {self.generated}",
            f"vllm:prefix_cache_queries_total{{{label}}} {prompt}",
            f"vllm:prefix_cache_hits_total{{{label}}} {self.sources['local_cache_hit']}",
            f"vllm:external_prefix_cache_queries_total{{{label}}} {self.external_queries()}",
            f"vllm:external_prefix_cache_hits_total{{{label}}} {self.sources['external_kv_transfer']}",
            f"vllm:time_to_first_token_seconds_sum{{{label}}} {self.ttft_sum}",
            f"vllm:time_to_first_token_seconds_count{{{label}}} {self.ttft_count}",
            f"vllm:request_prefill_time_seconds_sum{{{label}}} {self.prefilling}",
            f"vllm:request_prefill_time_seconds_count{{{label}}} {self.ttft_count}",
            f"vllm:request_prefill_kv_computed_tokens_sum{{{label}}} {self.prefilled}",
            f"vllm:llmcache_load_seconds_total{{{label}}} {self.loading}",
            f"vllm:llmcache_load_tokens_total{{{label}}} {self.loaded}",
            f'vllm:cache_config_info{{block_size="{BLOCK_TOKENS}",num_gpu_blocks="{blocks}"}} 1',
        ]
        for source, count in self.sources.items():
            lines.append(f'vllm:prompt_tokens_by_source_total{{{label},source="{source}"}} {count}')
        return "\n".join(lines) + "\n"
