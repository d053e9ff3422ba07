"""The command line of the router."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from llmcache_runtime.policy import POLICIES, Prices
from llmcache_runtime.router.admission import AdmissionSettings
from llmcache_runtime.router.connection import Patience
from llmcache_runtime.router.engines import Endpoint
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
        prices=Prices(reload_ratio=flags.reload_ratio),
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
    engines = parser.add_argument_group("engines").add_mutually_exclusive_group(required=True)
    engines.add_argument(
        "--service", type=_service, metavar="NAMESPACE/NAME", help="the engines are the endpoints of this Service"
    )
    engines.add_argument(
        "--engine", type=_engine, action="append", metavar="URL", help="an engine, as http://host:port; repeat for more"
    )
    _listening(parser.add_argument_group("listening"))
    _safety(parser.add_argument_group("safety"))
    _routing(parser.add_argument_group("routing"))
    _limits(parser.add_argument_group("limits"))
    return parser


def _listening(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 (a server in a pod)
    group.add_argument("--port", type=_port, default=8000, help="port for clients")
    group.add_argument("--private-port", type=_port, default=9090, help="port for health, metrics and debug pages")
    group.add_argument("--grace", type=_seconds, default=5.0, help="seconds to go on accepting after SIGTERM")
    group.add_argument(
        "--drain-timeout", type=_seconds, default=300.0, help="seconds that streams get to end after that"
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
        type=_path,
        action="append",
        metavar="PATH",
        help="a path of the engine to open beside those for inference; repeat for more",
    )


def _routing(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--policy", choices=list(POLICIES), default="PrefixAware", help="how engines are picked")
    group.add_argument(
        "--session-header", type=_header, metavar="NAME", help="header that names a session, for SessionAffinity"
    )
    group.add_argument(
        "--reload-ratio",
        type=_ratio,
        default=0.35,
        help="cost of a token from the shared tier against a computed one, until it is learned",
    )
    group.add_argument(
        "--metrics-interval",
        type=_seconds,
        default=10.0,
        help="seconds between two readings of an engine's metrics, which teach costs and cache sizes; 0 for none",
    )
    group.add_argument("--connect-timeout", type=_seconds, default=1.0, help="seconds to connect to an engine")
    group.add_argument("--first-byte-timeout", type=_seconds, default=600.0, help="seconds until an engine must answer")
    group.add_argument("--health-interval", type=_seconds, default=1.0, help="seconds between two probes of an engine")
    group.add_argument("--health-timeout", type=_seconds, default=1.0, help="seconds that a probe may take")
    group.add_argument(
        "--debug-headers", action="store_true", help="name engine and expected cache tiers in response headers"
    )


def _limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-head", type=_count, default=64 * 1024, help="bytes of a request's head")
    group.add_argument("--max-body", type=_count, default=32 * 1024 * 1024, help="bytes of a request's body")
    group.add_argument("--max-connections", type=_count, default=10000, help="open client connections")
    group.add_argument("--max-running", type=_count, default=0, help="requests on one engine; 0 for no limit")
    group.add_argument(
        "--max-queue", type=_count, default=1000, help="requests that wait when --max-running is reached"
    )
    group.add_argument("--queue-timeout", type=_seconds, default=30.0, help="seconds that they wait")
    group.add_argument("--idle-timeout", type=_seconds, default=75.0, help="seconds that an idle client is kept")
    group.add_argument("--client-timeout", type=_seconds, default=60.0, help="seconds that a stuck client is kept")


def _service(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/NAME")
    return namespace, name


def _engine(text: str) -> Endpoint:
    try:
        url = urlsplit(text)
        port = url.port or 80
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not http://host:port ({error})") from None
    if url.scheme != "http" or not url.hostname or url.path.strip("/") or url.query:
        raise argparse.ArgumentTypeError(f"{text!r} is not http://host:port")
    name = f"{url.hostname}:{port}"
    return Endpoint(id=name, name=name, host=url.hostname, port=port)


def _header(text: str) -> bytes:
    if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a header")
    return text.lower().encode()


def _path(text: str) -> str:
    if not text.isascii() or not text.isprintable() or not text.startswith("/") or set(text) & set("?# "):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path such as /v1/load_lora_adapter")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535; 0 takes a free one)")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    return number


def _seconds(text: str) -> float:
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of 0 or more")
    return number


def _ratio(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return number
