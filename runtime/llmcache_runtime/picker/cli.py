"""The command line of the picker."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from llmcache_runtime.router.admission import AdmissionSettings
from llmcache_runtime.router.flags import count, how_to_pick, listening, read, safety, settings, which_engines
from llmcache_runtime.router.forward import ForwardSettings
from llmcache_runtime.router.http1 import Limits
from llmcache_runtime.router.settings import Settings


def parse(argv: Sequence[str] | None) -> Settings:
    """Read the flags. Exits with 2 and a message that names the flag when one is wrong."""
    flags = read(_parser(), argv, "gRPC port")
    return replace(
        settings(flags),
        limits=Limits(body=flags.max_body),
        # A gateway waits for the picker for a moment only: who can't start now is told so.
        admission=AdmissionSettings(flags.max_running, queue=0),
        forward=ForwardSettings(flags.session_header, flags.debug_headers),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "llmcache-picker",
        description="Tells a gateway, over ext_proc, which vLLM engine serves each request with the least work.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    which_engines(parser)
    listening(
        parser.add_argument_group("listening"),
        port_number=9002,
        port_for="gRPC port for gateways",
        drain=30.0,
        drained="seconds that requests get to reach an engine after that",
    )
    safety(parser.add_argument_group("safety"))
    how_to_pick(parser.add_argument_group("picking"))
    _limits(parser.add_argument_group("limits"))
    return parser


def _limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-body", type=count, default=32 * 1024 * 1024, help="bytes of a request's body")
    group.add_argument(
        "--max-running", type=count, default=0, help="requests on one engine, beyond which 429; 0 for no limit"
    )
