"""The operator's process: options, credentials, Lease, and then everything at once until something ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING

import prometheus_client

from llmcache_operator.edge import credentials, health, logs, options
from llmcache_operator.edge.bucket import TokenBucket
from llmcache_operator.edge.cluster import HttpCluster
from llmcache_operator.edge.discovery import Discovery, KindsChangedError
from llmcache_operator.edge.lease import Elector, LeaseLostError
from llmcache_operator.edge.metrics import Metrics
from llmcache_operator.edge.operation import Operation
from llmcache_operator.edge.sentinel import StaleWatchError
from llmcache_operator.edge.watching import WatchEndedError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from kubernetes.aio.client import ApiClient

    from llmcache_operator.edge.options import Options

LEASE = "llmcache-operator"
QPS, BURST = 10.0, 20
STOPPED, BROKEN, UNUSABLE, LEASE_LOST, WATCH_FAILED, KINDS_CHANGED = range(6)
"""Exit codes: told to stop; a bug; wrong options or credentials; the Lease is lost; a watch ended or went stale; a CRD
that the operator makes use of came or went."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the operator; ends the process with one of the exit codes."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    chosen = options.parse(sys.argv[1:] if argv is None else argv)
    logs.set_up(chosen.log_level)
    sys.exit(asyncio.run(run(chosen)))


async def run(chosen: Options) -> int:
    """Run until SIGTERM, SIGINT or a failure that only a new process cures; returns the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with await credentials.client() as client:
            return await _serve(chosen, client, stop)
    except credentials.CredentialsError as error:
        return _end(UNUSABLE, error)
    except LeaseLostError as error:
        return _end(LEASE_LOST, error)
    except (StaleWatchError, WatchEndedError) as error:
        return _end(WATCH_FAILED, error)
    except KindsChangedError as error:
        return _end(KINDS_CHANGED, error)
    except OSError as error:
        return _end(BROKEN, error)


async def _serve(chosen: Options, client: ApiClient, stop: asyncio.Event) -> int:
    metrics, bucket = Metrics(), TokenBucket(QPS, BURST)

    async def admit() -> None:
        await bucket.take()
        elector.check()

    cluster = HttpCluster(client, admit)
    elector = Elector(cluster, chosen.settings.operator_namespace, LEASE, chosen.identity)
    async with health.serving(chosen.port, metrics, elector.why_unheard):
        if not await _unless(stop, elector.acquire()):
            return STOPPED
        metrics.leading.set(1)
        try:
            discovery = Discovery(cluster, chosen.namespaces)
            if await _unless(stop, discovery.begin()):
                await Operation(chosen, cluster, metrics, discovery).run(elector, stop)
        finally:
            metrics.leading.set(0)
            await elector.release()
    log.info("stopped")
    return STOPPED


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Whether work was done before the stop came. Raises what the work raises."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        working.cancel()
        stopping.cancel()


def _end(code: int, error: Exception) -> int:
    log.error("ending with exit code %d: %s", code, error)
    return code


if __name__ == "__main__":
    main()
