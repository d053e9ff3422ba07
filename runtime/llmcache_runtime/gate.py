"""The start gate of an engine pod, an init container: fingerprint the weights, link them, wait for the cache server.

It keeps two promises. Engines see their model at a path that ends in the cache identity and the fingerprint of the
weights, so LMCache never gives them KV of other weights. And no engine starts before the cache server answers: one
that does never becomes healthy (LMCache's queue timeout), and SIGTERM doesn't end it.

What it leaves in the link folder: ``llmcache_connector.py`` for the engine to import, the link ``IDENTITY-FINGERPRINT``
to the model, and ``model-path`` with the link's path. Init containers don't run again when only the engine's container
restarts; so that its command can tell that the weights have changed since, the modification time of ``model-path`` is
the newest change time in the model's folder, and ``find -L SOURCE -cnewer model-path`` names what is newer.
"""

import argparse
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from llmcache_runtime.fingerprint import UnreadableModelError, fingerprint, last_change, list_files

MODEL_PATH = "model-path"
CONNECTOR = "llmcache_connector.py"
FINGERPRINT_DIGITS = 12
_TERMINATION_LOG = Path("/dev/termination-log")
_NOTICE_SECONDS = 10.0
_RETRY_SECONDS = 0.5
_MOST_READS = 20
_CONNECT_SECONDS = 3.0


def main() -> None:
    """Run the gate; ends with status 1 and a message, also in the termination log, if there is no model to serve."""
    _end_at_once_on_sigterm()
    arguments = _parser().parse_args()
    try:
        leave_connector(arguments.link_dir)
        link_model(arguments.source, arguments.link_dir, arguments.identity)
    except UnreadableModelError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"can't write to {arguments.link_dir}: {error}")
    await_cache(*arguments.cache)


def leave_connector(folder: Path) -> None:
    """Put `connector.py` into `folder` under the name that engines import."""
    source = Path(__file__).with_name("connector.py").read_text()
    _replace(folder / CONNECTOR, lambda scratch: scratch.write_text(source))


def link_model(source: Path, folder: Path, identity: str) -> Path:
    """Fingerprint the model in `source`, make the link and ``model-path`` in `folder` and return the link's path.

    Repeating it with the same files changes nothing that an engine sees. Raises UnreadableModelError.
    """
    digest, newest = _settled_fingerprint(source)
    link = folder / f"{identity}-{digest[:FINGERPRINT_DIGITS]}"
    _replace(link, lambda scratch: scratch.symlink_to(source))

    def write(scratch: Path) -> None:
        scratch.write_text(str(link))
        os.utime(scratch, ns=(newest, newest))

    _replace(folder / MODEL_PATH, write)
    _say(f"the engine serves {link}")
    return link


def await_cache(host: str, port: int) -> None:
    """Return once the cache server's port accepts a connection; say every 10 s what is being waited for.

    The Service is headless: its name resolves once a server's readiness probe has passed.
    """
    notice = _Notice()
    while (problem := _connect(host, port)) is not None:
        notice.say(f"waiting for the cache server {host}:{port}: {problem}")
        time.sleep(_RETRY_SECONDS)
    _say(f"the cache server {host}:{port} answers")


def _settled_fingerprint(source: Path) -> tuple[str, int]:
    files = list_files(source)
    for _ in range(_MOST_READS):
        newest = last_change(source)
        _say(f"hashing {len(files)} files in {source}")
        digest = fingerprint(source, files, _Notice().progress)
        if (now := list_files(source)) == files:
            return digest, newest
        _say(f"{source} changed while it was read; reading it again")
        unsettled, files = set(now) ^ set(files), now
        time.sleep(_RETRY_SECONDS)
    names = ", ".join(sorted({file.name for file in unsettled})[:5])
    raise UnreadableModelError(
        f"{source} changed during each of {_MOST_READS} readings ({names}): wait until it is written, "
        "or use storage that keeps inodes and change times"
    )


def _connect(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except socket.gaierror:
        return "its name does not resolve, so its readiness probe has not passed"
    except OSError as error:
        return str(error)
    return None


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    # Made beside it and renamed: a gate that is killed leaves the old one or the new one, never half of one.
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    make(scratch)
    scratch.replace(path)


class _Notice:
    """Lets one message through every 10 s, the first after 10 s."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _NOTICE_SECONDS

    def say(self, message: str) -> None:
        if time.monotonic() >= self._next:
            _say(message)
            self._next = time.monotonic() + _NOTICE_SECONDS

    def progress(self, done: int, total: int) -> None:
        self.say(f"hashed {done / (1 << 30):.1f} of {total / (1 << 30):.1f} GiB")


def _end_at_once_on_sigterm() -> None:
    # Process 1 of a container ignores signals that it does not handle, and a handler of Python's would wait for the
    # main thread to return from a name look-up. A thread that takes the blocked signal waits for nothing.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def end() -> None:
        signal.sigwait({signal.SIGTERM})
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmcache-gate", description="Runs before an engine of an LLMCacheService.")
    parser.add_argument("--cache", type=_address, required=True, metavar="HOST:PORT", help="the cache server's MP port")
    parser.add_argument("--source", type=Path, required=True, help="the folder that holds the model")
    parser.add_argument("--identity", type=_identity, required=True, help="the cache identity, the link's first part")
    parser.add_argument("--link-dir", type=Path, required=True, help="where the link and model-path go")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _identity(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} can't be part of a file's name")
    return text


def _say(message: str) -> None:
    print(f"llmcache-gate: {message}", flush=True)


def _fail(message: str) -> None:
    print(f"llmcache-gate: {message}", file=sys.stderr, flush=True)
    if _TERMINATION_LOG.exists():
        # Kubernetes shows it as the container's terminated.message, and the operator as the reason of EnginesReady.
        _TERMINATION_LOG.write_text(message)
    sys.exit(1)


if __name__ == "__main__":
    main()
