"""A connection to the store, which is opened when it is needed and given up at the first fault."""

import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from llmcache_runtime.l2guard.carrier import Carrier
from llmcache_runtime.l2guard.health import State, StoreError, of_error
from llmcache_runtime.l2guard.stream import ProtocolError, Stream, command, number

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the store is and how to be let in. `timeout`: seconds that any single step may take."""

    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    timeout: float = 2.0


class Store:
    """One connection. Every method raises StoreError, after which the next call connects anew."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._stream: Stream | None = None

    def ask(self, *parts: bytes) -> bytes:
        """Send a command whose answer is one line, and return that line."""

        def exchange(stream: Stream) -> bytes:
            stream.send(*parts)
            return _sound(stream.line())

        return self._exchange(exchange)

    def find(self, key: bytes) -> int | None:
        """Return how many bytes the value of a key has, which are then to be taken; None where it has none."""

        def exchange(stream: Stream) -> int | None:
            stream.send(b"GET", key)
            head = _sound(stream.line())
            return None if head == b"$-1" else number(head, b"$")

        return self._exchange(exchange)

    def take(self, carrier: Carrier, most: int) -> int:
        """Have a part of the value taken."""
        return self._midway(lambda stream: carrier.take(stream, most))

    def taken(self) -> None:
        """Take the end of the value."""
        self._midway(Stream.end)

    def offer(self, key: bytes, size: int) -> None:
        """Announce a value, which is then to be given."""
        if self._stream is not None and not self._stream.idle():
            # It was closed: halfway through a value would be too late to find out.
            self.close()
        head = command(b"SET", key, b"").removesuffix(b"$0\r\n\r\n") + b"$%d\r\n" % size
        self._exchange(lambda stream: stream.write(head))

    def give(self, carrier: Carrier) -> None:
        """Have a part of the value given."""
        self._midway(carrier.give)

    def given(self) -> None:
        """End the value, and see that it was stored."""

        def exchange(stream: Stream) -> None:
            stream.write(b"\r\n")
            _sound(stream.line())

        self._midway(exchange)

    def close(self) -> None:
        """Give the connection up."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _midway(self, exchange: Callable[[Stream], T]) -> T:
        """Run an exchange on the connection that the one before it left."""
        try:
            return self._once(exchange)
        except ConnectionError as error:
            self.close()
            raise StoreError(State.UNREACHABLE, str(error)) from None

    def _exchange(self, exchange: Callable[[Stream], T]) -> T:
        """Run an exchange, and once more on a new connection where an older one turns out to be closed."""
        if self._stream is not None:
            with contextlib.suppress(ConnectionError):
                return self._once(exchange)
            self.close()
        return self._midway(exchange)

    def _once(self, exchange: Callable[[Stream], T]) -> T:
        """Run an exchange. A connection that was closed raises ConnectionError, everything else StoreError."""
        try:
            return exchange(self._connected())
        except (ConnectionError, StoreError):
            # After an error reply the connection is in step.
            raise
        except TimeoutError:
            self.close()
            raise StoreError(State.UNREACHABLE, f"no answer within {self._address.timeout:g} s") from None
        except (OSError, ValueError, ProtocolError) as error:
            self.close()
            raise StoreError(State.UNREACHABLE, str(error) or type(error).__name__) from None

    def _connected(self) -> Stream:
        if self._stream is None:
            where = self._address
            connection = socket.create_connection((where.host, where.port), timeout=where.timeout)
            try:
                self._stream = self._let_in(connection)
            except BaseException:
                connection.close()
                raise
        return self._stream

    def _let_in(self, connection: socket.socket) -> Stream:
        where = self._address
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if where.tls is not None:
            connection = where.tls.wrap_socket(connection, server_hostname=where.host)
        stream = Stream(connection)
        if where.password:
            user = [where.username.encode()] if where.username else []
            stream.send(b"AUTH", *user, where.password.encode())
            _sound(stream.line())
        return stream


def _sound(line: bytes) -> bytes:
    if line.startswith(b"-"):
        raise of_error(line)
    return line
