"""Inject every cause, and write operator/docs/causes.md: what `make causes` runs."""

from __future__ import annotations

import argparse
import sys

from e2e.causes.report import PAGE, Found, page
from e2e.cluster.console import console
from e2e.cluster.errors import ClusterError

STAGES = ("fake", "real")


def main() -> None:
    """Run the stages that were asked for; the page holds the last run of each."""
    parser = argparse.ArgumentParser(prog="make causes", description=__doc__)
    parser.add_argument("--stage", choices=(*STAGES, "all", "page"), default="all", help="page: only write the page")
    parser.add_argument("--name", default="causes", help="which local cluster the real engines get (default: causes)")
    parser.add_argument(
        "--only", action="append", default=[], help="with real engines: only parts whose name holds this; repeatable"
    )
    flags = parser.parse_args()
    try:
        if flags.stage in ("fake", "all"):
            from e2e.causes.fake.run import run as run_fake  # noqa: PLC0415 - one stage needs no part of the other

            run_fake().save("fake")
        if flags.stage in ("real", "all"):
            from e2e.causes.real.run import run as run_real  # noqa: PLC0415

            run_real(flags.name, flags.only).save("real")
    except (ClusterError, TimeoutError) as error:
        console.print(f"[red]error:[/red] {error}")
        sys.exit(1)
    found = Found.load("real") + Found.load("fake")
    PAGE.write_text(page(found))
    console.print(f"{PAGE}: {sum(result.holds for result in found.results)} of {len(found.results)} hold")


if __name__ == "__main__":
    main()
