"""LMCache's connector for vLLM, with a fault mended that ends engines (lmcache 0.5.6, vLLM 0.32; reproduced).

The start gate leaves this file where the engine's Python finds it; it runs in the engine, whatever its image, and
imports nothing of ours.

A client that goes away while KV is loaded for its request makes LMCache report the request twice: as one whose load
has ended, at which vLLM frees and forgets it, and as one whose stores have ended, since it is over. At the second
report vLLM fails an assertion (`Scheduler._update_from_kv_xfer_finished`): the engine dies, with all its streams and
its cache. Where loads are asynchronous, the reports can come in the other order, which frees blocks that are still
being written to. Here the second report is left out, and one of stores waits until the load has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1 import lmcache_mp_connector as upstream

if TYPE_CHECKING:
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

Finished = set[str] | None


class LMCacheMPConnector(upstream.LMCacheMPConnector):  # type: ignore[misc]  # engines' images have it
    """Reports the end of each request once. vLLM makes one for its scheduler and one in each worker."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._ending: set[str] = set()
        """In the scheduler: requests that are over, whose blocks it keeps until a report."""
        self._held: set[str] = set()
        """In a worker: requests whose stores have ended, and whose load has not."""

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
