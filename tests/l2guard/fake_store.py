"""A Valkey in a thread: enough of it for the guard, with faults on demand."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from llmcache_runtime.l2guard.stream import Scratch, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeStore:
    """Holds values. `fault` is answered in the place of whatever a command on data would be answered."""

    def __init__(self, password: str = "") -> None:
        self.values: dict[bytes, bytes] = {}
        self.fault: dict[bytes, bytes] = {}
        self.password = password
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
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        stream, let_in = Stream(connection, Scratch()), not self.password
        try:
            while (command := stream.command()) is not None:
                name, *arguments = [bytes(part) for part in command]
                if name == b"AUTH":
                    let_in = arguments[-1] == self.password.encode()
                    stream.write(b"+OK\r\n" if let_in else b"-WRONGPASS invalid username-password pair\r\n")
                elif not let_in:
                    stream.write(b"-NOAUTH Authentication required.\r\n")
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
