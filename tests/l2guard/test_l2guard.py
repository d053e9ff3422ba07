"""Whatever happens to the store, LMCache's client gets answers in the form that it can read."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from llmcache_runtime.l2guard import main as program
from llmcache_runtime.l2guard.counts import Counts
from llmcache_runtime.l2guard.health import Health, State
from llmcache_runtime.l2guard.prober import Prober
from llmcache_runtime.l2guard.relay import Relay
from llmcache_runtime.l2guard.server import Server
from llmcache_runtime.l2guard.store import Address, Store
from tests.certificates import write_certificate
from tests.l2guard.fake_store import FakeStore
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUE = bytes(range(256)) * 4000


class Client:
    """LMCache's RESP client as it was measured: it reads as many bytes as it expects, and connects once."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def exists(self, key: bytes) -> bool:
        self._send(b"EXISTS", key)
        return {b":1\r\n": True, b":0\r\n": False}[self._read(4)]

    def store(self, key: bytes, value: bytes = VALUE) -> None:
        self._send(b"SET", key, value)
        assert self._read(5) == b"+OK\r\n"

    def load(self, key: bytes, size: int = len(VALUE)) -> bytes | None:
        self._send(b"GET", key)
        head = b"$%d\r\n" % size
        if self._read(len(head)) != head:
            return None
        value = self._read(size + 2)
        return value[:-2] if value[-2:] == b"\r\n" else None

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def closed(self) -> bool:
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            # What had come and was not read makes the end a harder one.
            return True

    def close(self) -> None:
        self._socket.close()

    def _send(self, *parts: bytes) -> None:
        self.send(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            assert more, "the guard closed the connection, and LMCache would never connect again"
            data += more
        return data


@dataclass
class Guard:
    """A guard in this process; it looks at the store when a test says so."""

    health: Health
    prober: Prober
    port: int
    counts: Counts
    stack: ExitStack

    def client(self) -> Client:
        client = Client(self.port)
        self.stack.callback(client.close)
        return client

    def probe(self) -> State:
        with closing(Store(self.prober.address)) as store:
            self.prober.probe(store)
        return self.health.view.state


@contextmanager
def guarded(store: FakeStore, password: str = "", tls: ssl.SSLContext | None = None) -> Iterator[Guard]:
    address = Address("localhost" if tls else "127.0.0.1", store.port, password=password, tls=tls, timeout=0.5)
    health = Health()
    counts = Counts(health)
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as server:
        arguments = (server, address, health, counts)
        threading.Thread(target=_accept, args=arguments, daemon=True).start()
        yield Guard(health, Prober(address, health, slow=5.0), server.getsockname()[1], counts, stack)
        server.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, address: Address, health: Health, counts: Counts) -> None:
    try:
        server = Server(("127.0.0.1", free_port()), 4)
        program.accept(listening, server, lambda client, sizes: Relay(client, address, health, counts, sizes))
    except OSError:
        return


@pytest.fixture
def store() -> Iterator[FakeStore]:
    with FakeStore().running() as running:
        yield running


@pytest.fixture
def guard(store: FakeStore) -> Iterator[Guard]:
    with guarded(store) as made:
        assert made.probe() is State.OK
        yield made


def test_values_go_through_unchanged(guard: Guard, store: FakeStore) -> None:
    client = guard.client()
    client.store(b"k")

    assert store.values[b"k"] == VALUE
    assert client.exists(b"k")
    assert client.load(b"k") == VALUE
    assert not client.exists(b"other")


def test_values_go_through_unchanged_where_the_store_speaks_tls(tmp_path: Path) -> None:
    chain, secret = write_certificate(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, secret)
    with (
        FakeStore(tls=context).running() as store,
        guarded(store, tls=ssl.create_default_context(cafile=chain)) as guard,
    ):
        assert guard.probe() is State.OK
        client = guard.client()
        client.store(b"k", 3 * VALUE)

        assert store.values[b"k"] == 3 * VALUE
        assert client.load(b"k", 3 * len(VALUE)) == 3 * VALUE


def test_a_value_that_is_evicted_after_its_look_up_is_a_miss(guard: Guard, store: FakeStore) -> None:
    client = guard.client()
    store.values[b"k"] = VALUE
    assert client.exists(b"k")
    del store.values[b"k"]

    assert client.load(b"k") is None
    assert not client.exists(b"k")


@pytest.mark.parametrize("come", [40, len(VALUE) // 2, len(VALUE)])
def test_a_value_of_which_only_a_part_comes_is_a_miss(guard: Guard, store: FakeStore, come: int) -> None:
    client = guard.client()
    client.store(b"k")
    store.breaks_after = come

    assert client.load(b"k") is None
    assert guard.health.view.state is State.UNREACHABLE
    store.breaks_after = None
    assert guard.probe() is State.OK
    assert client.load(b"k") == VALUE


def test_a_value_that_the_store_breaks_off_is_dropped_and_the_next_one_stored(guard: Guard, store: FakeStore) -> None:
    client = guard.client()
    store.breaks_after = len(VALUE) // 2
    client.store(b"k", 8 * VALUE)

    assert b"k" not in store.values
    store.breaks_after = None
    assert guard.probe() is State.OK
    client.store(b"k")
    assert client.load(b"k") == VALUE


def test_a_store_that_refuses_for_a_while_costs_no_connection() -> None:
    store = FakeStore()
    with store.running(), guarded(store) as guard:
        assert guard.probe() is State.OK
        client = guard.client()
        client.store(b"k")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(store.fault, b"STRLEN", b"-LOADING dataset in memory\r\n")
            assert not client.exists(b"k")
            assert client.load(b"k") is None
        assert guard.probe() is State.OK
        assert client.load(b"k") == VALUE


def test_a_store_that_never_was_there_is_no_hindrance() -> None:
    store = FakeStore()
    with store.running():
        pass
    with guarded(store) as guard:
        client = guard.client()
        client.store(b"k")

        assert guard.probe() is State.UNREACHABLE
        assert not client.exists(b"k")
        assert client.load(b"k") is None
        with store.running():
            assert guard.probe() is State.OK
            client.store(b"k")
            assert client.load(b"k") == VALUE


def test_connections_that_the_store_dropped_are_made_anew_at_once() -> None:
    store = FakeStore()
    with store.running(), guarded(store) as guard:
        guard.probe()
        client = guard.client()
        client.store(b"k")
        store.drop()

        assert client.load(b"k") == VALUE
        assert guard.health.view.state is State.OK


def test_a_wrong_password_is_told_and_nothing_waits() -> None:
    with FakeStore(password="right").running() as store:
        with guarded(store, password="wrong") as guard:
            client = guard.client()

            assert guard.probe() is State.AUTHENTICATION_FAILED
            assert "WRONGPASS" in guard.health.view.detail
            assert not client.exists(b"k")
        with guarded(store, password="right") as guard:
            assert guard.probe() is State.OK


def test_a_full_store_is_still_read(guard: Guard, store: FakeStore) -> None:
    client = guard.client()
    client.store(b"k")
    store.fault[b"SET"] = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
    client.store(b"l")

    assert guard.health.view.state is State.FULL
    assert client.load(b"k") == VALUE
    assert not client.exists(b"l")
    assert guard.probe() is State.FULL
    store.fault.clear()
    assert guard.probe() is State.OK


def test_a_slow_store_is_left_alone_until_it_is_quick_again(guard: Guard, store: FakeStore) -> None:
    client = guard.client()
    client.store(b"k")
    guard.prober.slow = 0.0

    assert [guard.probe() for _ in range(4)] == [State.OK, State.OK, State.SLOW, State.SLOW]
    assert not client.exists(b"k")
    guard.prober.slow = 5.0
    assert guard.probe() is State.OK
    assert client.exists(b"k")


def test_one_value_that_the_store_refuses_says_nothing_of_the_others(guard: Guard, store: FakeStore) -> None:
    client = guard.client()
    store.fault[b"SET"] = b"-ERR string exceeds maximum allowed size\r\n"
    client.store(b"k")

    assert guard.health.view.state is State.OK


@pytest.mark.parametrize(
    "nonsense", [b"GET k\r\n", b"*1\r\n$x\r\n", b"*1\r\n$99999999999\r\n", b"*1\r\n$1\r\nab\r\n", b"x" * 100_000]
)
def test_what_is_no_command_ends_its_connection_only(guard: Guard, nonsense: bytes) -> None:
    client, other = guard.client(), guard.client()
    client.send(nonsense)

    assert client.closed()
    other.store(b"k")
    assert other.load(b"k") == VALUE


def test_what_went_through_is_counted(guard: Guard) -> None:
    client = guard.client()
    client.store(b"k")
    client.exists(b"k")
    text = guard.counts.text().decode()

    assert 'llmcache_l2_operations_total{operation="set",result="stored"} 1.0' in text
    assert 'llmcache_l2_operations_total{operation="exists",result="hit"} 1.0' in text
    assert 'llmcache_l2_bytes_total{direction="written"} 1.024e+06' in text
    assert 'llmcache_l2_state{state="Ok"} 1.0' in text


def test_the_program_tells_its_state_and_ends_on_sigterm(store: FakeStore) -> None:
    http, listen, server = free_port(), free_port(), free_port()
    command = [sys.executable, "-m", "llmcache_runtime.l2guard.main", "--store", f"127.0.0.1:{store.port}"]
    command += ["--listen", f"127.0.0.1:{listen}", "--http-port", str(http), "--server", f"127.0.0.1:{server}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(program.__file__).parents[2])}
    transport = httpx.HTTPTransport(retries=8)
    with (
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process,
        httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{http}", timeout=10) as client,
    ):
        try:
            assert client.get("/healthz").status_code == 200
            assert client.get("/server").status_code == 503, "there is no LMCache server"
            state = json.loads(client.get("/state").text)
            assert set(state) == {"state", "detail", "latency"}
            assert client.get("/nothing").status_code == 404
            assert "llmcache_l2_connections 0.0" in client.get("/metrics").text
        finally:
            process.terminate()
        assert process.wait(10) == 0
