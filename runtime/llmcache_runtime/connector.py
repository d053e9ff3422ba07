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
server that is back by then was never gone. Here pings begin with the engine, the server is asked every few seconds
whether it knows the engine, and a store that is not answered counts as a failed ping.
"""

# ruff: noqa: SLF001 - LMCache's adapter has no other way in.

from __future__ import annotations

import logging
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1 import lmcache_mp_connector as upstream

if TYPE_CHECKING:
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

Finished = set[str] | None

STATUS_URL = "llmcache.status"
"""In `kv_connector_extra_config`: where the server's `/status` is, which lists the engines that it knows."""

_ASK_SECONDS = 3.0
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

    def register_kv_caches(self, kv_caches: Any) -> None:
        """Register, in a worker, and see to it that the server knows it from now on."""
        super().register_kv_caches(kv_caches)
        adapter = self.worker_adapter
        if not all(hasattr(adapter, name) for name in _NEEDED):
            _log.warning("this LMCache is built otherwise: engines may have to be restarted after its servers")
            return
        adapter._ensure_heartbeat_started()
        if self._status_url:
            threading.Thread(target=keep_known, args=(adapter, self._status_url), daemon=True).start()

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Load, in a worker. A server that does not answer is left alone until it is well."""
        began = time.monotonic()
        super().start_load_kv(forward_context, **kwargs)
        self._judge(time.monotonic() - began)

    def wait_for_save(self) -> None:
        """Store, in a worker; what can't be stored is computed again one day."""
        began = time.monotonic()
        try:
            super().wait_for_save()
        except TimeoutError as error:
            _log.warning("the LMCache server takes no KV: %s", error)
        self._judge(time.monotonic() - began)

    def _judge(self, seconds: float) -> None:
        """Take a transfer that ran out of time for a failed ping: the next good one registers the engine again."""
        if seconds >= self._patience and hasattr(self.worker_adapter, "_health_event"):
            self.worker_adapter._health_event.clear()

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
        loading = set(getattr(self.worker_adapter, "retrieve_futures", ()))
        stored, loaded = super().get_finished(finished_req_ids)
        ended = self._held | (stored or set())
        self._held = ended & loading - (loaded or set())
        return ended - self._held, loaded


def keep_known(adapter: Any, url: str) -> None:
    """Ask the server, until the engine ends, whether it knows this worker; if not, let LMCache register it again.

    LMCache does so at the next good ping after a bad one. It is the heartbeat's part to find a server that is gone.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while not adapter._heartbeat_stop_requested():
        time.sleep(_ASK_SECONDS)
        try:
            with direct.open(url, timeout=_ASK_SECONDS) as answer:
                known = str(adapter.instance_id).encode() in answer.read()
        except OSError:
            continue
        if not known and adapter._health_event.is_set():
            _log.warning("the LMCache server at %s does not know this engine: it is registered again", url)
            adapter._health_event.clear()
