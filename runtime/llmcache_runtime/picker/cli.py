"""The command line of the picker."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from llmcache_runtime.policy import Prices
from llmcache_runtime.router.admission import AdmissionSettings
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
        parser.error(f"argument --private-port: {flags.private_port} is the gRPC port too")
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
        access_log=flags.access_log,
        tls=(flags.tls_cert, flags.tls_key) if flags.tls_cert else None,
        admin_paths=frozenset(flags.admin_path or ()),
        limits=Limits(body=flags.max_body),
        health=HealthSettings(interval=flags.health_interval, timeout=flags.health_timeout),
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
    _listening(parser.add_argument_group("listening"))
    how_to_pick(parser.add_argument_group("picking"))
    _limits(parser.add_argument_group("limits"))
    return parser


def _listening(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 (a server in a pod)
    group.add_argument("--port", type=port, default=9002, help="gRPC port for gateways")
    group.add_argument("--private-port", type=port, default=9090, help="port for health, metrics and debug pages")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain; read again on change")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key")
    group.add_argument("--grace", type=seconds, default=5.0, help="seconds to go on accepting after SIGTERM")
    group.add_argument(
        "--drain-timeout", type=seconds, default=30.0, help="seconds that requests get to reach an engine after that"
    )
    group.add_argument(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a JSON line for each request on stdout",
    )


def _limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-body", type=count, default=32 * 1024 * 1024, help="bytes of a request's body")
    group.add_argument(
        "--max-running", type=count, default=0, help="requests on one engine, beyond which 429; 0 for no limit"
    )
    group.add_argument(
        "--admin-path",
        type=path,
        action="append",
        metavar="PATH",
        help="a path of the engine to open beside those for inference; repeat for more",
    )
