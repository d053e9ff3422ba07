"""Generate the dashboard, check deploy/monitoring, or try it on a real cluster."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from e2e.cluster.console import console
from e2e.cluster.errors import ClusterError
from e2e.monitoring import dashboard, promtool, trial

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Do one of them; what goes wrong becomes a message and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m e2e.monitoring", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("generate", help="write deploy/monitoring/dashboard.json")
    commands.add_parser("check", help="rules, their unit tests and the dashboard's expressions, with promtool")
    run = commands.add_parser("trial", help="a real Prometheus on a real cluster under load, and the dashboard drawn")
    run.add_argument("--name", default="dev", help="which local cluster (default: dev)")
    run.add_argument("--minutes", type=float, default=5, help="how long people chat (default: 5)")
    chosen = parser.parse_args(argv)
    try:
        if chosen.command == "generate":
            dashboard.FILE.write_text(dashboard.text())
        elif chosen.command == "check":
            promtool.check()
            console.print("rules, their tests and the dashboard's expressions are good")
        else:
            trial.run(chosen.name, chosen.minutes * 60)
    except (ClusterError, TimeoutError) as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
