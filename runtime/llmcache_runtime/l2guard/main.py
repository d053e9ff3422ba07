"""The command line: `llmcache-l2-guard`."""

import argparse
import json
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from llmcache_runtime.l2guard.counts import Counts
from llmcache_runtime.l2guard.health import Health
from llmcache_runtime.l2guard.prober import Prober
from llmcache_runtime.l2guard.relay import Relay
from llmcache_runtime.l2guard.server import Server
from llmcache_runtime.l2guard.sizes import Sizes
from llmcache_runtime.l2guard.store import Address

PASSWORD = "LLMCACHE_L2_PASSWORD"  # noqa: S105 - the name of a variable
_BACKLOG = 128


def main(argv: Sequence[str] | None = None) -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="llmcache-l2-guard: %(message)s")
    flags = _parser().parse_args(argv)
    # Process 1 of a container ignores signals that nobody takes.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    host, port = flags.store
    password = os.environ.get(PASSWORD, "")
    address = Address(host, port, flags.username, password, _tls(flags), flags.timeout)
    health = Health()
    counts = Counts(health)
    server = Server(flags.server, flags.connections)
    _start(Prober(address, health, flags.slow).run)
    _start(_serving(health, counts, server, flags.http_port).serve_forever)
    with socket.create_server(flags.listen, backlog=_BACKLOG) as listening:
        accept(listening, server, lambda client, sizes: Relay(client, address, health, counts, sizes))


def accept(listening: socket.socket, server: Server, relay: Callable[[socket.socket, Sizes], Relay]) -> None:
    """Give each connection its thread: they copy large values, which the interpreter does not hold up."""
    sizes = Sizes()
    while True:
        client, _ = listening.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _start(partial(_serve, relay(client, sizes), server))


def _serve(relay: Relay, server: Server) -> None:
    with server.connected():
        relay.run()


def _serving(health: Health, counts: Counts, server: Server, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = _told(self.path.partition("?")[0], health, counts, server)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: probes and scrapes come all the time."""

    return ThreadingHTTPServer(("", port), Handler)


def _told(path: str, health: Health, counts: Counts, server: Server) -> tuple[HTTPStatus, bytes]:
    if path == "/metrics":
        return HTTPStatus.OK, counts.text()
    if path == "/state":
        view = health.view
        state = {"state": view.state.value, "detail": view.detail, "latency": view.latency}
        return HTTPStatus.OK, json.dumps(state).encode()
    if path == "/server" and (trouble := server.trouble()):
        return HTTPStatus.SERVICE_UNAVAILABLE, trouble.encode()
    return (HTTPStatus.OK, b"ok") if path in ("/healthz", "/server") else (HTTPStatus.NOT_FOUND, b"")


def _start(run: Callable[[], None]) -> None:
    threading.Thread(target=run, daemon=True).start()


def _tls(flags: argparse.Namespace) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=flags.tls_ca) if flags.tls else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "llmcache-l2-guard",
        description=f"Keeps faults of a Valkey or Redis from an LMCache server. The password is in {PASSWORD}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--store", type=_address, required=True, metavar="HOST:PORT", help="the Valkey or Redis")
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 6380), metavar="HOST:PORT", help="for LMCache")
    parser.add_argument("--http-port", type=int, default=9091, help="of /metrics, /state, /healthz and /server")
    parser.add_argument(
        "--server", type=_address, default=("127.0.0.1", 8080), metavar="HOST:PORT", help="HTTP of the LMCache server"
    )
    parser.add_argument("--connections", type=int, default=4, help="that the LMCache server makes when it starts")
    parser.add_argument("--username", default="", help="user name, where the store has users")
    parser.add_argument("--tls", action="store_true", help="speak TLS with the store")
    parser.add_argument("--tls-ca", metavar="FILE", help="certificates that it is verified with")
    parser.add_argument("--slow", type=float, default=0.05, help="seconds that an answer may take and still help")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds that any step with the store may take")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    main()
