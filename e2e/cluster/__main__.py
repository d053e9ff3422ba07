"""`python -m e2e.cluster up|down|status|kubeconfig|audit-log|load`."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.table import Table
from rich.text import Text

from e2e.cluster import images, lifecycle, slots
from e2e.cluster.console import console
from e2e.cluster.errors import ClusterError


def main() -> None:
    """Run one command; a ClusterError becomes a message and exit status 1."""
    arguments = _parser().parse_args()
    command: Callable[[argparse.Namespace], None] = arguments.command
    try:
        command(arguments)
    except ClusterError as error:
        console.print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.cluster", description="A real Kubernetes on this machine, without Docker."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None], about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.add_argument("--name", default="dev", help="which cluster (default: dev)")
        sub.set_defaults(command=command)
        return sub

    add("up", _up, "make the cluster, or mend what is missing of it")
    add("down", _down, "end the cluster and delete all that it left")
    add("status", _status, "show the components of the cluster")
    add("kubeconfig", _kubeconfig, "print the administrator's kubeconfig")
    add("audit-log", _audit_log, "print the API server's log of writes, one JSON event a line")
    load = add("load", _load, "make container images known to the cluster, and keep them for later ones")
    load.add_argument("image", nargs="+", help="a docker or OCI archive, - for stdin, or an image in the cache")
    return parser


def _up(arguments: argparse.Namespace) -> None:
    cluster = lifecycle.up(arguments.name)
    console.print(f"cluster {cluster.name} is up: export KUBECONFIG={cluster.kubeconfig}", soft_wrap=True)


def _down(arguments: argparse.Namespace) -> None:
    if not lifecycle.down(arguments.name):
        console.print(f"there is no cluster {arguments.name}")


def _status(arguments: argparse.Namespace) -> None:
    cluster = slots.get(arguments.name)
    table = Table("component", "pid", "health", title=f"{cluster.name} at {cluster.server}")
    states = lifecycle.status(cluster)
    for state in states:
        health = "[green]works[/green]" if state.healthy else "[red]silent[/red]" if state.pid else "[red]ended[/red]"
        table.add_row(state.component, str(state.pid or ""), health)
    console.print(table)
    console.print(f"logs: {cluster.log('*')}", soft_wrap=True)
    sys.exit(0 if all(state.healthy for state in states) else 1)


def _kubeconfig(arguments: argparse.Namespace) -> None:
    sys.stdout.write(slots.get(arguments.name).kubeconfig.read_text())


def _audit_log(arguments: argparse.Namespace) -> None:
    with slots.get(arguments.name).audit_log.open() as log:
        shutil.copyfileobj(log, sys.stdout)


def _load(arguments: argparse.Namespace) -> None:
    refs: list[str] = []
    for image in arguments.image:
        if image == "-":
            with tempfile.NamedTemporaryFile(suffix=".tar") as spool:
                shutil.copyfileobj(sys.stdin.buffer, spool)
                spool.flush()
                refs += _import(Path(spool.name))
        elif Path(image).exists():
            refs += _import(Path(image))
        else:
            refs.append(image)
    images.sync(arguments.name, refs)


def _import(archive: Path) -> list[str]:
    refs = images.names_in(archive)
    # A person may load the same tag with other content.
    images.import_archive(archive, refs=refs, replace=True)
    return refs


if __name__ == "__main__":
    main()
