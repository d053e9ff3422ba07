"""The process of a front end: logs, signals, loop, exit code."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from typing import Protocol

import uvloop

_GC_THRESHOLD = 20_000


class FrontEnd(Protocol):
    """What can be run and told to stop."""

    async def run(self) -> None:
        """Serve until told to stop."""

    def stop(self) -> None:
        """Begin a graceful stop."""


def run(make: Callable[[], FrontEnd]) -> int:
    """Run what `make` makes until SIGTERM or SIGINT; 0 after a graceful stop, 1 when it can't start."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        uvloop.run(_run(make))
    except (OSError, ValueError) as error:
        logging.getLogger(__name__).error("can't start: %s", error)  # noqa: TRY400 (no traceback)
        return 1
    return 0


async def _run(make: Callable[[], FrontEnd]) -> None:
    front_end = make()
    # What was imported lives for ever, and requests leave few cycles behind: the collector need not look often.
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, front_end.stop)
    await front_end.run()
