"""LMCache's connector for vLLM, with a fault mended that ends engines (lmcache 0.5.6, vLLM 0.32).

The start gate leaves this file where the engine's Python finds it; it runs in the engine, whatever its image, and
imports nothing of ours.

A client that goes away while KV is loaded for its request makes LMCache report the request twice: as one whose store
has ended, since the engine said that it is over, and as one whose load has ended. vLLM forgets it at the first report
and fails an assertion at the second (`Scheduler._update_from_kv_xfer_finished`): the engine dies, with all its streams
and its cache. Where loads are asynchronous, the first report also frees blocks that are still being written to.
LMCache leaves the first report out where its server is unhealthy (`LMCacheMPWorkerAdapter.get_finished`); here it is
left out always. The second frees the blocks.
"""

from __future__ import annotations

from vllm.distributed.kv_transfer.kv_connector.v1 import lmcache_mp_connector as upstream


class LMCacheMPConnector(upstream.LMCacheMPConnector):  # type: ignore[misc]  # engines' images have it
    """Reports a request whose KV is being loaded only once it is."""

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Return the requests whose stores and whose loads have ended, none in both."""
        loading = set(self.worker_adapter.retrieve_futures)
        stored, loaded = super().get_finished(finished_req_ids)
        return (stored or set()) - loading - (loaded or set()), loaded
