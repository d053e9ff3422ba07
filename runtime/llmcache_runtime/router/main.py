"""Entry point of `llmcache-router`."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence

import uvloop

from llmcache_runtime.router.app import Router
from llmcache_runtime.router.cli import parse
from llmcache_runtime.router.settings import Settings

_GC_THRESHOLD = 20_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run a router until it is told to stop; 0 after a graceful stop, 1 when it can't start."""
    settings = parse(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        uvloop.run(_run(settings))
    except (OSError, ValueError) as error:
        logging.getLogger(__name__).error("can't start: %s", error)  # noqa: TRY400 (no traceback)
        return 1
    return 0


async def _run(settings: Settings) -> None:
    router = Router(settings)
    # What was imported lives for ever, and requests leave few cycles behind: the collector need not look often.
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, router.stop)
    await router.run()


if __name__ == "__main__":
    sys.exit(main())
