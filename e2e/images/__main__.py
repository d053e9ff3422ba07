"""`python -m e2e.images build|ensure|refs`."""

import argparse
import signal
import sys

from e2e.cluster.console import console
from e2e.cluster.errors import ClusterError
from e2e.images import load
from e2e.images.spec import IMAGES, refs


def main() -> None:
    """Run one command; a ClusterError becomes a message and exit status 1."""
    arguments = _parser().parse_args()
    # Whoever is asked to end takes along what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        _run(arguments)
    except ClusterError as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.images", description="Builds the images; nothing is built twice."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build what is missing")
    build.add_argument(
        "--only", nargs="+", choices=tuple(IMAGES), default=(), metavar="IMAGE", help=f"of {', '.join(IMAGES)}"
    )
    ensure = commands.add_parser("ensure", help="build what is missing and make it known to a cluster")
    ensure.add_argument("--cluster", default="dev", help="which cluster (default: dev)")
    ensure.add_argument("--kind", action="store_true", help="the cluster is one of kind")
    for command in (build, ensure):
        command.add_argument(
            "--engine", choices=tuple(load.ENGINES), default="buildah", help="what builds (default: buildah)"
        )
    commands.add_parser("refs", help="print the image names that the current files lead to")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "build":
            load.build(*arguments.only, engine=arguments.engine)
        case "ensure" if arguments.kind:
            load.ensure_kind(arguments.cluster, engine=arguments.engine)
        case "ensure":
            load.ensure(arguments.cluster, engine=arguments.engine)
        case _:
            print("\n".join(refs().values()))


if __name__ == "__main__":
    main()
