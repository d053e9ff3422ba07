"""The command line of the router."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmcache_runtime.router.admission import AdmissionSettings
from llmcache_runtime.router.connection import Patience
from llmcache_runtime.router.flags import count, how_to_pick, listening, read, safety, seconds, settings, which_engines
from llmcache_runtime.router.forward import ForwardSettings
from llmcache_runtime.router.http1 import Limits
from llmcache_runtime.router.settings import Settings


def parse(argv: Sequence[str] | None) -> Settings:
    """Read the flags. Exits with 2 and a message that names the flag when one is wrong."""
    flags = read(_parser(), argv, "public port")
    return replace(
        settings(flags),
        max_connections=flags.max_connections,
        api_keys=flags.api_keys,
        limits=Limits(head=flags.max_head, body=flags.max_body),
        patience=Patience(idle=flags.idle_timeout, body=flags.client_timeout, write=flags.client_timeout),
        admission=AdmissionSettings(flags.max_running, flags.max_queue, flags.queue_timeout),
        forward=ForwardSettings(flags.session_header, flags.debug_headers, flags.first_byte_timeout),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "llmcache-router",
        description="Sends each OpenAI request to the vLLM engine that serves it with the least work.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    which_engines(parser)
    listening(
        parser.add_argument_group("listening"),
        port_number=8000,
        port_for="port for clients",
        drain=300.0,
        drained="seconds that streams get to end after that",
    )
    _safety(parser.add_argument_group("safety"))
    how_to_pick(parser.add_argument_group("routing"))
    _limits(parser.add_argument_group("limits"))
    return parser


def _safety(group: argparse._ArgumentGroup) -> None:
    safety(group)
    group.add_argument(
        "--api-keys", type=Path, metavar="FILE", help="keys that clients must send, one a line; read again on change"
    )


def _limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--first-byte-timeout", type=seconds, default=600.0, help="seconds until an engine must answer")
    group.add_argument("--max-head", type=count, default=64 * 1024, help="bytes of a request's head")
    group.add_argument("--max-body", type=count, default=32 * 1024 * 1024, help="bytes of a request's body")
    group.add_argument("--max-connections", type=count, default=10000, help="open client connections")
    group.add_argument("--max-running", type=count, default=0, help="requests on one engine; 0 for no limit")
    group.add_argument("--max-queue", type=count, default=1000, help="requests that wait when --max-running is reached")
    group.add_argument("--queue-timeout", type=seconds, default=30.0, help="seconds that they wait")
    group.add_argument("--idle-timeout", type=seconds, default=75.0, help="seconds that an idle client is kept")
    group.add_argument("--client-timeout", type=seconds, default=60.0, help="seconds that a stuck client is kept")
