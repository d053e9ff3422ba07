"""Flags that both front ends, proxy and endpoint picker, take, and the types of flags."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from llmcache_runtime.policy import POLICIES, Prices
from llmcache_runtime.router.engines import Endpoint
from llmcache_runtime.router.health import HealthSettings
from llmcache_runtime.router.settings import Settings


def read(parser: argparse.ArgumentParser, argv: Sequence[str] | None, own_port: str) -> argparse.Namespace:
    """Read the flags; `own_port` says what the front end's own port is called in messages.

    Exits with 2 and a message that names the flag when one is wrong.
    """
    flags = parser.parse_args(argv)
    if flags.port == flags.private_port != 0:
        parser.error(f"argument --private-port: {flags.private_port} is the {own_port} too")
    if bool(flags.tls_cert) != bool(flags.tls_key):
        parser.error("argument --tls-cert: it needs --tls-key, and the other way round")
    return flags


def settings(flags: argparse.Namespace) -> Settings:
    """Return what the flags of this module say; the rest are defaults."""
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
        health=HealthSettings(interval=flags.health_interval, timeout=flags.health_timeout),
    )


def which_engines(parser: argparse.ArgumentParser) -> None:
    """Add the two ways to say where engines are; one must be given."""
    engines = parser.add_argument_group("engines").add_mutually_exclusive_group(required=True)
    engines.add_argument(
        "--service", type=service, metavar="NAMESPACE/NAME", help="the engines are the endpoints of this Service"
    )
    engines.add_argument(
        "--engine", type=engine, action="append", metavar="URL", help="an engine, as http://host:port; repeat for more"
    )


def listening(group: argparse._ArgumentGroup, *, port_number: int, port_for: str, drain: float, drained: str) -> None:
    """Add where a front end listens and how it stops; its own port and what it waits for are its own."""
    group.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 (a server in a pod)
    group.add_argument("--port", type=port, default=port_number, help=port_for)
    group.add_argument("--private-port", type=port, default=9090, help="port for health, metrics and debug pages")
    group.add_argument("--grace", type=seconds, default=5.0, help="seconds to go on accepting after SIGTERM")
    group.add_argument("--drain-timeout", type=seconds, default=drain, help=drained)
    group.add_argument(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a JSON line for each request on stdout",
    )


def safety(group: argparse._ArgumentGroup) -> None:
    """Add TLS and the paths of engines that are open."""
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain; read again on change")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key")
    group.add_argument(
        "--admin-path",
        type=path,
        action="append",
        metavar="PATH",
        help="a path of the engine to open beside those for inference; repeat for more",
    )


def how_to_pick(group: argparse._ArgumentGroup) -> None:
    """Add what a front end may be told about picking engines."""
    group.add_argument("--policy", choices=list(POLICIES), default="PrefixAware", help="how engines are picked")
    group.add_argument(
        "--session-header", type=header, metavar="NAME", help="header that names a session, for SessionAffinity"
    )
    group.add_argument(
        "--shared-tier",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether engines find what others computed; without it, only an engine's own cache counts",
    )
    group.add_argument(
        "--reload-ratio",
        type=ratio,
        default=0.35,
        help="cost of a token from the shared tier against a computed one, until it is learned",
    )
    group.add_argument(
        "--metrics-interval",
        type=seconds,
        default=10.0,
        help="seconds between two readings of an engine's metrics, which teach costs and cache sizes; 0 for none",
    )
    group.add_argument("--connect-timeout", type=seconds, default=1.0, help="seconds to connect to an engine")
    group.add_argument("--health-interval", type=seconds, default=1.0, help="seconds between two probes of an engine")
    group.add_argument("--health-timeout", type=seconds, default=1.0, help="seconds that a probe may take")
    group.add_argument(
        "--debug-headers", action="store_true", help="name engine and expected cache tiers in response headers"
    )


def service(text: str) -> tuple[str, str]:
    """Read NAMESPACE/NAME."""
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/NAME")
    return namespace, name


def engine(text: str) -> Endpoint:
    """Read the URL of an engine."""
    try:
        url = urlsplit(text)
        port = url.port or 80
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not http://host:port ({error})") from None
    if url.scheme != "http" or not url.hostname or url.path.strip("/") or url.query:
        raise argparse.ArgumentTypeError(f"{text!r} is not http://host:port")
    name = f"{url.hostname}:{port}"
    return Endpoint(id=name, name=name, host=url.hostname, port=port)


def header(text: str) -> bytes:
    """Read the name of a header, put in lower case."""
    if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a header")
    return text.lower().encode()


def path(text: str) -> str:
    """Read a path without query."""
    if not text.isascii() or not text.isprintable() or not text.startswith("/") or set(text) & set("?# "):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path such as /v1/load_lora_adapter")
    return text


def port(text: str) -> int:
    """Read a TCP port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535; 0 takes a free one)")
    return int(text)


def count(text: str) -> int:
    """Read a whole number."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    return number


def seconds(text: str) -> float:
    """Read a time."""
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of 0 or more")
    return number


def ratio(text: str) -> float:
    """Read a part of one."""
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return number
