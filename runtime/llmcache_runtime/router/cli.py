"""The command line of the router."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from llmcache_runtime.policy import Prices
from llmcache_runtime.router.admission import AdmissionSettings
from llmcache_runtime.router.connection import Patience
from llmcache_runtime.router.flags import count, how_to_pick, path, port, seconds, which_engines
from llmcache_runtime.router.forward import ForwardSettings
from llmcache_runtime.router.health import HealthSettings
from llmcache_runtime.router.http1 import Limits
from llmcache_runtime.router.settings import Settings


def parse(argv: Sequence[str] | None) -> Settings:
    """Read the flags. Exits with 2 and a message that names the flag when one is wrong."""
    parser = _parser()
    flags = parser.parse_args(argv)
    if flags.port == flags.private_port != 0:
        parser.error(f"argument --private-port: {flags.private_port} is the public port too")
    if bool(flags.tls_cert) != bool(flags.tls_key):
        parser.error("argument --tls-cert: it needs --tls-key, and the other way round")
    return Settings(
        service=flags.service,
        engines=tuple(dict.fromkeys(flags.engine or ())),
        host=flags.host,
        port=flags.port,
        private_port=flags.private_port,
        policy=flags.policy,
        prices=Prices(reload_ratio=flags.reload_ratio, shared=flags.shared_tier),
        connect_timeout=flags.connect_timeout,
        metrics_interval=flags.metrics_interval,
        grace=flags.grace,
        drain_timeout=flags.drain_timeout,
        max_connections=flags.max_connections,
        access_log=flags.access_log,
        api_keys=flags.api_keys,
        tls=(flags.tls_cert, flags.tls_key) if flags.tls_cert else None,
        admin_paths=frozenset(flags.admin_path or ()),
        limits=Limits(head=flags.max_head, body=flags.max_body),
        patience=Patience(idle=flags.idle_timeout, body=flags.client_timeout, write=flags.client_timeout),
        health=HealthSettings(interval=flags.health_interval, timeout=flags.health_timeout),
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
    _listening(parser.add_argument_group("listening"))
    _safety(parser.add_argument_group("safety"))
    how_to_pick(parser.add_argument_group("routing"))
    _limits(parser.add_argument_group("limits"))
    return parser


def _listening(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 (a server in a pod)
    group.add_argument("--port", type=port, default=8000, help="port for clients")
    group.add_argument("--private-port", type=port, default=9090, help="port for health, metrics and debug pages")
    group.add_argument("--grace", type=seconds, default=5.0, help="seconds to go on accepting after SIGTERM")
    group.add_argument(
        "--drain-timeout", type=seconds, default=300.0, help="seconds that streams get to end after that"
    )
    group.add_argument(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a JSON line for each request on stdout",
    )


def _safety(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain; read again on change")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key")
    group.add_argument(
        "--api-keys", type=Path, metavar="FILE", help="keys that clients must send, one a line; read again on change"
    )
    group.add_argument(
        "--admin-path",
        type=path,
        action="append",
        metavar="PATH",
        help="a path of the engine to open beside those for inference; repeat for more",
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
