"""Entry point of `llmcache-router`."""

import sys
from collections.abc import Sequence

from llmcache_runtime.router.app import Router
from llmcache_runtime.router.cli import parse
from llmcache_runtime.router.process import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run a router until it is told to stop; 0 after a graceful stop, 1 when it can't start."""
    settings = parse(argv)
    return run(lambda: Router(settings))


if __name__ == "__main__":
    sys.exit(main())
