"""Entry point of `llmcache-picker`."""

import sys
from collections.abc import Sequence

from llmcache_runtime.picker.app import Picker
from llmcache_runtime.picker.cli import parse
from llmcache_runtime.router.process import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run a picker until it is told to stop; 0 after a graceful stop, 1 when it can't start."""
    settings = parse(argv)
    return run(lambda: Picker(settings))


if __name__ == "__main__":
    sys.exit(main())
