"""LMCache's connector for vLLM, with faults mended that end engines or leave them without a cache.

The start gate leaves this file where the engine's Python finds it; it runs in the engine, whatever its image, and
imports nothing of ours. Both faults were reproduced with lmcache 0.5.6 and vLLM 0.32.

A client that goes away while KV is loaded for its request makes LMCache report the request twice: as one whose load
has ended, at which vLLM frees and forgets it, and as one whose stores have ended, since it is over. At the second
report vLLM fails an assertion (`Scheduler._update_from_kv_xfer_finished`): the engine dies, with all its streams and
its cache. Where loads are asynchronous, the reports can come in the other order, which frees blocks that are still
being written to. Here the second report is left out, and one of stores waits until the load has ended.

A server that starts anew knows no engine, and does not answer those that it does not know: the next store waits for
`lmcache.mp.mq_timeout`, and ends the engine where KV lies in shared memory. LMCache registers again after a ping that
failed, but it sends the first ping with the first store, and later ones every 10 s, each with 10 s of patience: a
server that is back by then was never gone. Here the server is asked every few seconds whether it knows the engine; a
"no", or a transfer that failed because it ran out of time, counts as a failed ping.

It also counts what LMCache does not: how long loads take where engines wait for them, on CPUs, as
`vllm:llmcache_load_seconds_total` and `vllm:llmcache_load_tokens_total` among the engine's metrics (vLLM's way for
connectors: `KVConnectorStats`).
"""

# ruff: noqa: SLF001 - LMCache's adapter has no other way in.

from __future__ import annotations

import contextlib
import http.client
import logging
import re
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter
from vllm.distributed.kv_transfer.kv_connector.v1 import lmcache_mp_connector as upstream
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

Finished = set[str] | None

STATUS_URL = "llmcache.status"
"""In `kv_connector_extra_config`: where the server's `/status` is, which lists the engines that it knows."""

LOADS = "loads"
_ASK_SECONDS = 4.0
_NEEDED = ("_ensure_heartbeat_started", "_heartbeat_stop_requested", "_health_event", "instance_id")
_log = logging.getLogger("vllm.llmcache_connector")


class LMCacheMPConnector(upstream.LMCacheMPConnector):  # type: ignore[misc]  # engines' images have it
    """vLLM makes one for its scheduler and one in each worker."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        extra = vllm_config.kv_transfer_config.kv_connector_extra_config
        self._status_url: str = extra.get(STATUS_URL, "")
        self._patience = float(extra.get("lmcache.mp.mq_timeout", 300.0))
        self._ending: set[str] = set()
        """In the scheduler: requests that are over, whose blocks it keeps until a report."""
        self._held: set[str] = set()
        """In a worker: requests whose stores have ended, and whose load has not."""
        self._forgotten = threading.Event()
        """In a worker: its server has started anew, and will never answer what the one before was asked."""
        self._waits_for_loads = False
        self._loads: list[tuple[float, int]] = []
        """In a worker: seconds and tokens of loads that went well."""

    def register_kv_caches(self, kv_caches: Any) -> None:
        """Register, in a worker, and see to it that the server knows it from now on."""
        super().register_kv_caches(kv_caches)
        # Elsewhere loads wait for what the device still computes, or go on beside it.
        self._waits_for_loads = all(_on_cpu(cache) for cache in kv_caches.values())
        adapter = self.worker_adapter
        if not all(hasattr(adapter, name) for name in _NEEDED):
            _log.warning("this LMCache is built otherwise: engines may have to be restarted after its servers")
        elif self._status_url:
            watch = threading.Thread(target=keep_known, args=(adapter, self._status_url, self._forgotten), daemon=True)
            watch.start()

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Load, in a worker. A server that does not answer is left alone until it is well."""
        began, before = time.monotonic(), set(self._loading())
        super().start_load_kv(forward_context, **kwargs)
        loads = {request: load for request, load in self._loading().items() if request not in before}
        seconds = time.monotonic() - began
        if self._waits_for_loads and loads and seconds < self._patience and all(map(_went_well, loads.values())):
            self._loads.append((seconds, self._tokens(set(loads))))
        self._judge(seconds, loads.values())

    def wait_for_save(self) -> None:
        """Store, in a worker; what can't be stored is computed again one day."""
        began, stores = time.monotonic(), getattr(self.worker_adapter, "store_futures", {})
        before = set(stores)
        try:
            super().wait_for_save()
        except TimeoutError as error:
            _log.warning("the LMCache server takes no KV: %s", error)
            self._distrust()
        else:
            self._judge(time.monotonic() - began, [stores[request] for request in set(stores) - before])

    def _judge(self, seconds: float, transfers: Iterable[Any]) -> None:
        """Distrust a server that let a transfer run out of time; one that is only slow is well."""
        if seconds >= self._patience and any(one.query() and not _went_well(one) for one in transfers):
            self._distrust()

    def _distrust(self) -> None:
        """Take what happened for a failed ping: the next good one registers the engine again."""
        if hasattr(self.worker_adapter, "_health_event"):
            self.worker_adapter._health_event.clear()

    def _loading(self) -> dict[str, Any]:
        """Return the loads under way by request."""
        found = getattr(self.worker_adapter, "retrieve_futures", {})
        return {request: load for request, (load, *_) in found.items()}

    def _tokens(self, requests: set[str]) -> int:
        """Return how many tokens were to be loaded for requests."""
        asked = self._get_connector_metadata().requests
        ops = [one.op for one in asked if one.direction == "RETRIEVE" and one.request_id in requests]
        return sum(op.end - op.start for op in ops)

    def request_finished(self, request: Request, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Take note of a request that is over, in the scheduler."""
        waits, parameters = super().request_finished(request, block_ids)
        if waits:
            self._ending.add(request.request_id)
        return waits, parameters

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        """Leave out, in the scheduler, what it would not know any more. It frees at either report, loads first."""
        super().update_connector_output(connector_output)
        self._ending -= connector_output.finished_recving or set()
        if connector_output.finished_sending:
            connector_output.finished_sending &= self._ending
            self._ending -= connector_output.finished_sending

    def get_finished(self, finished_req_ids: set[str]) -> tuple[Finished, Finished]:
        """Return, in a worker, the requests whose stores and whose loads have ended; stores not before loads."""
        loading = set(self._loading())
        report = self._drained if self._forgotten.is_set() else super().get_finished
        stored, loaded = report(finished_req_ids)
        ended = self._held | (stored or set())
        self._held = ended & loading - (loaded or set())
        return ended - self._held, loaded

    def _drained(self, finished_req_ids: set[str]) -> tuple[Finished, Finished]:
        """End all transfers as LMCache does with those to a server that is gone, though it may be back by now."""
        self._forgotten.clear()
        health = self.worker_adapter._health_event
        well = health.is_set()
        health.clear()
        found: tuple[Finished, Finished] = super().get_finished(finished_req_ids)
        if well:
            health.set()
        return found

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        """Return what was counted since the last time: LMCache's look-ups in the scheduler, loads in a worker."""
        theirs = super().get_kv_connector_stats()
        data = dict(theirs.data) if theirs else {}
        if self._loads:
            data[LOADS], self._loads = self._loads, []
        return Stats(data=data) if data else None

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> KVConnectorStats:
        """Return such counts as they come from another process."""
        return Stats(data=data or {})

    @classmethod
    def build_prom_metrics(cls, *config: Any) -> KVConnectorPromMetrics:
        """Return what shows them among the engine's metrics."""
        return Metrics(super().build_prom_metrics(*config), *config)


class Stats(KVConnectorStats):  # type: ignore[misc]
    """Lists of what was observed, by what it is."""

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        """Take the other's in: another worker's, the scheduler's, or what came later."""
        for name, values in other.data.items():
            self.data[name] = [*self.data.get(name, ()), *values]
        return self

    def reduce(self) -> dict[str, int | float]:
        """Return what the engine's log says."""
        loads, lookups = self.data.get(LOADS, ()), self.data.get("lookup_duration_seconds", ())
        mean = sum(lookups) / len(lookups) if lookups else 0
        return {
            "LMCache look-ups": len(lookups),
            "of ms on average": round(1000 * mean, 3),
            "KV tokens loaded": sum(tokens for _, tokens in loads),
            "in seconds": round(sum(seconds for seconds, _ in loads), 3),
        }

    def reset(self) -> None:
        """Forget all."""
        self.data: dict[str, Any] = {}

    def is_empty(self) -> bool:
        """Whether there is nothing."""
        return not any(self.data.values())


class Metrics(KVConnectorPromMetrics):  # type: ignore[misc]
    """Shows loads, and lets LMCache show its own."""

    def __init__(self, theirs: Any, config: Any, types: Any, names: list[str], values: dict[int, list[object]]) -> None:
        super().__init__(config, types, names, values)
        self._theirs = theirs

        def counter(name: str, documentation: str) -> Any:
            return types[Counter](name=name, documentation=documentation, labelnames=names)

        seconds = counter("vllm:llmcache_load_seconds", "Time in which any KV was loaded from LMCache.")
        tokens = counter("vllm:llmcache_load_tokens", "Tokens whose KV was loaded from LMCache.")
        self._loads = {engine: (seconds.labels(*of), tokens.labels(*of)) for engine, of in values.items()}

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Count."""
        if self._theirs is not None:
            self._theirs.observe(transfer_stats_data, engine_idx)
        for load in transfer_stats_data.get(LOADS, ()):
            for counter, amount in zip(self._loads[engine_idx], load, strict=True):
                counter.inc(amount)


def keep_known(adapter: Any, url: str, forgotten: threading.Event) -> None:
    """Ask the server, until the engine ends, whether it knows this worker; if not any more, have it registered again.

    LMCache does so at the first good ping after a bad one. It is the heartbeat's part to find a server that is gone.
    """
    known_once = False
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    number = re.compile(rb"\b%d\b" % adapter.instance_id)
    while not adapter._heartbeat_stop_requested():
        well = adapter._health_event.is_set()
        with contextlib.suppress(OSError, http.client.HTTPException), direct.open(url, timeout=_ASK_SECONDS) as answer:
            known = bool(number.search(answer.read()))
            known_once = known_once or known
            # A server that never lists engines tells nothing; and one may have been registered while it was asked.
            if known_once and not known and well and adapter._health_event.is_set():
                _log.warning("the LMCache server at %s does not know this engine: it is registered again", url)
                forgotten.set()
                adapter._health_event.clear()
                adapter._ensure_heartbeat_started()
        time.sleep(_ASK_SECONDS)


def _went_well(transfer: Any) -> bool:
    """Whether a transfer is over and did what it was to do."""
    try:
        return transfer.query() and bool(transfer.result(timeout=0))
    except Exception:  # noqa: BLE001 - whatever the server answered
        return False


def _on_cpu(cache: Any) -> bool:
    return getattr(getattr(cache, "device", None), "type", "") == "cpu"
