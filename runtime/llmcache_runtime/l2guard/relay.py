"""Answers an LMCache server's commands, one after the other, as its client sends them."""

import logging
import socket

from llmcache_runtime.l2guard.counts import Counts
from llmcache_runtime.l2guard.health import Health, State, StoreError
from llmcache_runtime.l2guard.sizes import Sizes
from llmcache_runtime.l2guard.store import Address, Store
from llmcache_runtime.l2guard.stream import ProtocolError, Scratch, Stream

log = logging.getLogger(__name__)

_OK, _ZERO, _ONE = b"+OK\r\n", b":0\r\n", b":1\r\n"


class Relay:
    """One connection of the LMCache server and the one to the store that serves it."""

    def __init__(self, client: socket.socket, address: Address, health: Health, counts: Counts, sizes: Sizes) -> None:
        # One for both: a value is passed on before the next one is read.
        scratch = Scratch()
        self._client = Stream(client, scratch)
        self._store = Store(address, scratch)
        self._health = health
        self._counts = counts
        self._sizes = sizes
        self._faults = health.faults

    def run(self) -> None:
        """Serve until the client closes the connection."""
        self._counts.connections.inc()
        try:
            while (command := self._client.command()) is not None:
                self._answer(command)
        except (OSError, ProtocolError) as error:
            log.info("a connection of the LMCache server ended: %s", error)
        finally:
            self._counts.connections.dec()
            self._client.close()
            self._store.close()

    def _answer(self, command: list[bytes | memoryview]) -> None:
        name = bytes(command[0]).upper() if command else b""
        key = bytes(command[1]) if len(command) > 1 else b""
        if name == b"GET":
            self._get(key)
        elif name == b"SET" and len(command) > 2:
            self._set(key, command[2])
        elif name == b"EXISTS":
            self._exists(key)
        elif name == b"DEL":
            self._delete(key)
        else:
            self._client.write(_OK)

    def _get(self, key: bytes) -> None:
        value = None
        if self._passes("get", allowed=self._health.readable):
            try:
                value = self._store.value(key)
            except StoreError as error:
                self._fault("get", error)
            else:
                self._count("get", "miss" if value is None else "hit")
        if value is None:
            self._client.write(self._sizes.missing(key))
            return
        self._counts.bytes.labels("read").inc(len(value))
        self._client.write(b"$%d\r\n" % len(value), value, b"\r\n")

    def _set(self, key: bytes, value: bytes | memoryview) -> None:
        self._sizes.learn(key, len(value))
        if self._passes("set", allowed=self._health.writable):
            try:
                self._store.ask(b"SET", key, value)
            except StoreError as error:
                self._fault("set", error)
            else:
                self._count("set", "stored")
                self._counts.bytes.labels("written").inc(len(value))
        self._client.write(_OK)

    def _exists(self, key: bytes) -> None:
        size = 0
        if self._passes("exists", allowed=self._health.readable):
            try:
                size = int(self._store.ask(b"STRLEN", key).lstrip(b":"))
            except StoreError as error:
                self._fault("exists", error)
            else:
                self._count("exists", "hit" if size else "miss")
        if size:
            self._sizes.learn(key, size)
        self._client.write(_ONE if size else _ZERO)

    def _delete(self, key: bytes) -> None:
        answer = _ZERO
        if self._passes("delete", allowed=self._health.readable):
            try:
                answer = _ONE if self._store.ask(b"DEL", key) == b":1" else _ZERO
            except StoreError as error:
                self._fault("delete", error)
            else:
                self._count("delete", "hit" if answer == _ONE else "miss")
        self._client.write(answer)

    def _passes(self, operation: str, *, allowed: bool) -> bool:
        if not allowed:
            self._count(operation, "bypassed")
        elif self._faults != self._health.faults:
            # A store that moved leaves connections on which nobody ever answers, and nobody says so.
            self._faults = self._health.faults
            self._store.close()
        return allowed

    def _fault(self, operation: str, error: StoreError) -> None:
        self._count(operation, "failed")
        if error.state is State.REFUSING and operation == "set":
            # Of this one value, perhaps: it is for the probe to say what holds for all.
            log.warning("a value was not taken: %s", error)
            return
        if self._health.tell(error.state, str(error)):
            log.warning("%s: %s", error.state.value, error)

    def _count(self, operation: str, result: str) -> None:
        self._counts.operations.labels(operation, result).inc()
