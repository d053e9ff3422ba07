"""A Valkey in a thread: enough of it for the guard, with faults on demand."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from llmcache_runtime.l2guard.stream import Stream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


class FakeStore:
    """Holds values. `fault` is answered in the place of whatever a command on data would be answered.

    With `tls` it speaks nothing else. `breaks_after`: bytes of a value after which a connection is cut, in either
    direction.
    """

    def __init__(self, password: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.values: dict[bytes, bytes] = {}
        self.fault: dict[bytes, bytes] = {}
        self.password = password
        self._tls = tls
        self.breaks_after: int | None = None
        self._open: list[socket.socket] = []
        self.port = 0

    @contextmanager
    def running(self) -> Iterator[FakeStore]:
        """Listen until the context ends, at the same port every time."""
        with socket.create_server(("127.0.0.1", self.port)) as server:
            self.port = server.getsockname()[1]
            thread = threading.Thread(target=self._accept, args=(server,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()
                for connection in self._open:
                    connection.close()
                self._open.clear()

    def drop(self) -> None:
        """Cut all connections."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        stream, let_in = Stream(connection), not self.password
        try:
            while (command := stream.command()) is not None:
                name, *arguments = command.parts
                if command.size is not None:
                    arguments.append(_read(stream, command.size, self.breaks_after))
                if name == b"AUTH":
                    let_in = arguments[-1] == self.password.encode()
                    stream.write(b"+OK\r\n" if let_in else b"-WRONGPASS invalid username-password pair\r\n")
                elif not let_in:
                    stream.write(b"-NOAUTH Authentication required.\r\n")
                elif name == b"GET" and self.breaks_after is not None:
                    stream.write(self._answer(name, arguments)[: self.breaks_after])
                    return
                else:
                    stream.write(self.fault.get(name) or self._answer(name, arguments))
        except OSError:
            return
        finally:
            stream.close()

    def _answer(self, name: bytes, arguments: list[bytes]) -> bytes:
        if name == b"SET":
            self.values[arguments[0]] = arguments[1]
            return b"+OK\r\n"
        if name == b"PING":
            return b"+PONG\r\n"
        value = self.values.get(arguments[0])
        if name == b"STRLEN":
            return b":%d\r\n" % len(value or b"")
        if name == b"DEL":
            self.values.pop(arguments[0], None)
            return b":%d\r\n" % (value is not None)
        return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def _read(stream: Stream, size: int, breaks_after: int | None) -> bytes:
    value, have = memoryview(bytearray(size)), 0
    while have < size:
        if breaks_after is not None and have >= breaks_after:
            raise ConnectionResetError("as it was told")
        have += stream.read_into(value[have:])
    stream.end()
    return bytes(value)
