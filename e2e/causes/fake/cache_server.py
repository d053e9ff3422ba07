"""A fake LMCache server in multi-process mode: what it holds, who is registered, /metrics, /status and /version.

Names and labels of metrics and the fields of /status are those of lmcache 0.5.6 (v1/multiprocess/server.py,
modules/engine_driven_transfer.py, and its real metrics).
"""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 10 << 20
REAP_SECONDS = 120.0
"""Without a ping, after which a registration is dropped (lmcache's --worker-reap-timeout-seconds)."""


@dataclass(frozen=True)
class Asker:
    """What of an engine is part of its keys: the path of its model, its tensor parallelism, and its chunk size."""

    model: str
    world: int
    chunk_tokens: int

    def key(self, chunk: bytes) -> bytes:
        """Return the key of a chunk."""
        return f"{self.model}@{self.world}@".encode() + chunk


@dataclass
class CacheServer:
    """One server. `capacity` is in chunks of `chunk_tokens` tokens; by default they fill the 4 GiB of the spec."""

    capacity: int = 409
    chunk_tokens: int = 256
    version: str = "0.5.6"
    up: bool = True
    instances: dict[int, dict[str, Any]] = field(default_factory=dict)
    pinged: dict[int, float] = field(default_factory=dict)
    totals: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._held: OrderedDict[bytes, None] = OrderedDict()

    def restart(self) -> None:
        """Begin anew, empty."""
        self._held.clear()
        self.instances.clear()
        self.pinged.clear()
        self.totals.clear()
        self.started = time.time()

    def ping(self, instance: int, model: str, block_tokens: int, world_size: int) -> None:
        """Register an engine, or keep it registered."""
        self.instances[instance] = {
            "model_name": model,
            "world_size": world_size,
            "block_size": block_tokens,
            "use_mla": False,
        }
        self.pinged[instance] = time.monotonic()

    def unregister(self, instance: int) -> None:
        """Forget an engine that ends."""
        self.instances.pop(instance, None)
        self.pinged.pop(instance, None)

    def reap(self) -> None:
        """Drop who has not pinged for long."""
        for instance, at in tuple(self.pinged.items()):
            if time.monotonic() - at > REAP_SECONDS:
                del self.instances[instance], self.pinged[instance]

    def look_up(self, asker: Asker, chain: list[bytes]) -> int:
        """Count the leading chunks that are held, of those who share a path, tensor parallelism and chunk size."""
        self.totals["lookups_requests", asker.model, ""] += 1
        known = any((m["model_name"], m["world_size"]) == (asker.model, asker.world) for m in self.instances.values())
        if not known or not chain:
            reason = "empty_chunk_hashes" if known else "no_gpu_context"
            self.totals["lookup_early_exit_requests", asker.model, reason] += 1
            return 0
        held = asker.chunk_tokens == self.chunk_tokens
        hits = next((n for n, key in enumerate(chain) if not held or asker.key(key) not in self._held), len(chain))
        self.totals["lookup_requested_tokens", asker.model, ""] += len(chain) * self.chunk_tokens
        for name in ("lookup_hit_tokens", "lookup_hit_l1_tokens"):
            self.totals[name, asker.model, ""] += hits * self.chunk_tokens
        self.totals["lookup_hit_l1_keys", asker.model, ""] += hits
        return hits

    def store(self, asker: Asker, chain: list[bytes]) -> None:
        """Hold chunks; what was used longest ago goes first."""
        for chunk in reversed(chain):
            key = asker.key(chunk)
            self.totals["l1_write_chunks", "", ""] += key not in self._held
            self._held[key] = None
            self._held.move_to_end(key)
        while len(self._held) > self.capacity:
            self._held.popitem(last=False)
            self.totals["l1_evicted_chunks", "", ""] += 1

    def metrics(self) -> str:
        """Render /metrics."""
        lines = [
            f"process_start_time_seconds {self.started}",
            "lmcache_mp_event_bus_dropped_events_total 0.0",
            f'lmcache_mp_l1_memory_usage_bytes{{backend="dram",l1_tag="_default"}} {len(self._held) * CHUNK_BYTES}',
            f'lmcache_mp_l1_usage_ratio{{backend="dram",l1_tag="_default"}} {len(self._held) / self.capacity}',
        ]
        for (name, model, reason), value in sorted(self.totals.items()):
            labels = f'cache_salt="",model_name="{model}"' if model else 'l1_tag="_default"'
            labels += f',reason="{reason}"' if reason else ""
            lines.append(f"lmcache_mp_{name}_total{{{labels}}} {value}")
        return "\n".join(lines) + "\n"

    def answer(self, path: str) -> str | None:
        """Return the body of a GET, or None where there is no such page."""
        l1 = {"is_healthy": True, "total_object_count": len(self._held)}
        status = {
            "is_healthy": True,
            "engine_type": "MPCacheServer",
            "chunk_size": self.chunk_tokens,
            "hash_algorithm": "blake3",
            "active_sessions": 0,
            "storage_manager": {"is_healthy": True, "l1_managers": {"_default": l1}},
            "active_prefetch_jobs": 0,
            "registered_non_cuda_instance_ids": list(self.instances),
            "non_cuda_context_meta": {str(instance): meta for instance, meta in self.instances.items()},
            "registered_gpu_ids": [],
            "cache_context_meta": {},
            "worker_liveness": {
                "enabled": True,
                "reap_timeout_seconds": REAP_SECONDS,
                "registration_grace_seconds": 3600.0,
                "tracked_instances": len(self.instances),
            },
        }
        pages: dict[str, Callable[[], str]] = {
            "/metrics": self.metrics,
            "/healthcheck": lambda: json.dumps({"status": "healthy"}),
            "/status": lambda: json.dumps(status),
            "/version": lambda: json.dumps(f"{self.version}-NA"),
            "/lmc_version": lambda: json.dumps(self.version),
            "/config": lambda: json.dumps({"mp": {"chunk_size": self.chunk_tokens}}),
        }
        return pages[path]() if path in pages else None
