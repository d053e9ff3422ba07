"""`python -m e2e.prepare binaries|all`: build what tests take from the caches, before they start.

On a fresh machine that takes a quarter of an hour, and no test's time limit is meant for it.
"""

import argparse
import sys

from e2e import images
from e2e.cluster import build
from e2e.cluster.console import console
from e2e.cluster.errors import ClusterError
from e2e.cluster.versions import MODULES, VERSITYGW


def main() -> None:
    """Build what is missing; what goes wrong becomes a message and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m e2e.prepare", description="Builds what tests need.")
    parser.add_argument("what", choices=("binaries", "all"), help="Kubernetes' own; or what all tests need")
    try:
        if parser.parse_args().what == "binaries":
            build.ensure()
            return
        with images.built_ahead():
            build.ensure([*MODULES, VERSITYGW])
        images.stock()
    except ClusterError as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
