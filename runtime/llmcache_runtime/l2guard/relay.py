"""Answers an LMCache server's commands, one after the other, as its client sends them."""

import logging
import socket

from llmcache_runtime.l2guard.carrier import carrier
from llmcache_runtime.l2guard.counts import Counts
from llmcache_runtime.l2guard.health import Health, State, StoreError
from llmcache_runtime.l2guard.sizes import Sizes
from llmcache_runtime.l2guard.store import Address, Store
from llmcache_runtime.l2guard.stream import Command, ProtocolError, Stream

log = logging.getLogger(__name__)

_PART = 1 << 16
_NO_VALUE = b"--"
"""In the place of the line end behind a value: LMCache's client has then read all that it waits for, and takes it for a
miss (lmcache 0.5.6, "GET: trailer mismatch", measured)."""
_OK, _ZERO, _ONE = b"+OK\r\n", b":0\r\n", b":1\r\n"


class Relay:
    """One connection of the LMCache server and the one to the store that serves it."""

    def __init__(self, client: socket.socket, address: Address, health: Health, counts: Counts, sizes: Sizes) -> None:
        self._client = Stream(client)
        self._store = Store(address)
        self._carrier = carrier(encrypted=address.tls is not None)
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
            self._carrier.close()

    def _answer(self, command: Command) -> None:
        name, key = (*command.parts, b"", b"")[:2]
        name = name.upper()
        if name == b"SET" and command.size is not None:
            self._set(key, command.size)
            return
        if command.size is not None:
            self._pass_over(command.size)
        if name == b"GET":
            self._get(key)
        elif name == b"EXISTS":
            self._exists(key)
        elif name == b"DEL":
            self._delete(key)
        else:
            self._client.write(_OK)

    def _get(self, key: bytes) -> None:
        size = None
        if self._passes("get", allowed=self._health.readable):
            try:
                size = self._store.find(key)
            except StoreError as error:
                self._fault("get", error)
            else:
                if size is None:
                    self._count("get", "miss")
        if size is None:
            self._client.write(self._sizes.missing(key))
            return
        self._client.write(b"$%d\r\n" % size)
        self._hand_out(size)

    def _hand_out(self, size: int) -> None:
        """Pass a value on while it comes; one that does not come as a whole is a miss."""
        left = size
        try:
            while left:
                left -= self._store.take(self._carrier, left)
                self._carrier.give(self._client)
            self._store.taken()
        except StoreError as error:
            self._fault("get", error)
            for start in range(0, left, _PART):
                self._client.write(bytes(min(_PART, left - start)))
            self._client.write(_NO_VALUE)
            return
        self._client.write(b"\r\n")
        self._count("get", "hit")
        self._counts.bytes.labels("read").inc(size)

    def _set(self, key: bytes, size: int) -> None:
        self._sizes.learn(key, size)
        if not self._passes("set", allowed=self._health.writable):
            self._pass_over(size)
        elif self._hand_in(key, size):
            self._client.end()
            try:
                self._store.given()
            except StoreError as error:
                self._fault("set", error)
            else:
                self._count("set", "stored")
                self._counts.bytes.labels("written").inc(size)
        self._client.write(_OK)

    def _hand_in(self, key: bytes, size: int) -> bool:
        """Pass a value on while it comes, but for its end; return whether the store has taken it so far."""
        left = size
        try:
            self._store.offer(key, size)
            while left:
                left -= self._carrier.take(self._client, left)
                self._store.give(self._carrier)
        except StoreError as error:
            self._carrier.clear()
            self._fault("set", error)
            self._pass_over(left)
            return False
        return True

    def _pass_over(self, size: int) -> None:
        memory = memoryview(bytearray(min(size, _PART)))
        while size:
            size -= self._client.read_into(memory[:size])
        self._client.end()

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
