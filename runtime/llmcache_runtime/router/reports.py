"""What an engine reports of itself in its metrics; no I/O.

Names: vLLM 0.32, `vllm/v1/metrics/loggers.py`.
"""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from llmcache_runtime.policy import Observation

_WANTED = (
    b"process_start_time_seconds",
    b"vllm:cache_config_info",
    b"vllm:prompt_tokens_by_source_total",
    b"vllm:external_prefix_cache_queries_total",
    b"vllm:time_to_first_token_seconds_sum",
    b"vllm:time_to_first_token_seconds_count",
)


@dataclass(frozen=True, slots=True)
class Report:
    """Counters and facts at one moment; what the engine doesn't say is 0. Sizes in tokens."""

    started: float = 0.0
    capacity: int = 0
    computed: float = 0.0
    held: float = 0.0
    reloaded: float = 0.0
    queried: float = 0.0  # tokens asked of the shared tier
    requests: float = 0.0
    seconds: float = 0.0

    @property
    def shares(self) -> bool | None:
        """Whether there is a shared tier behind the engine; None while it has asked for nothing."""
        if self.queried:
            return True
        return False if self.computed else None

    def restarted_since(self, earlier: "Report") -> bool:
        """Whether the process is another one than that of an earlier report."""
        return self.started > earlier.started + 1 or self.requests < earlier.requests

    def since(self, earlier: "Report") -> Observation:
        """Give what was done after an earlier report of the same process."""
        return Observation(
            self.computed - earlier.computed,
            self.reloaded - earlier.reloaded,
            self.requests - earlier.requests,
            self.seconds - earlier.seconds,
        )


def parse(text: bytes) -> Report:
    """Read an exposition. Raises ValueError."""
    # Only the lines needed are parsed: a whole exposition takes 15 ms, in which every stream would stand still.
    lines = b"\n".join(line for line in text.splitlines() if line.startswith(_WANTED)) + b"\n"
    sums: dict[str, float] = {}
    capacity = 0
    for family in text_string_to_metric_families(lines.decode("utf-8", "replace")):
        for sample in family.samples:
            if sample.name == "vllm:cache_config_info":
                capacity += _capacity(sample.labels)
            key = sample.labels.get("source", sample.name)
            sums[key] = sums.get(key, 0.0) + sample.value
    return Report(
        started=sums.get("process_start_time_seconds", 0.0),
        capacity=capacity,
        computed=sums.get("local_compute", 0.0),
        held=sums.get("local_cache_hit", 0.0),
        reloaded=sums.get("external_kv_transfer", 0.0),
        queried=sums.get("vllm:external_prefix_cache_queries_total", 0.0),
        requests=sums.get("vllm:time_to_first_token_seconds_count", 0.0),
        seconds=sums.get("vllm:time_to_first_token_seconds_sum", 0.0),
    )


def _capacity(labels: dict[str, str]) -> int:
    tokens = labels.get("kv_cache_size_tokens", "")
    if tokens.isdecimal():
        return int(tokens)
    blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    return int(blocks) * int(size) if blocks.isdecimal() and size.isdecimal() else 0
