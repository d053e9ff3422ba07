"""A server beside each engine and a Valkey behind them all: what is shared, what outlives pods, and what faults do."""

from __future__ import annotations

import json
import signal
import uuid
from typing import TYPE_CHECKING

import pytest

from e2e.causes.real.node import send
from e2e.cluster.errors import ClusterError
from e2e.kube import wait_until
from e2e.services import Service, manifest
from e2e.valkey import CHUNK, FAULTS, await_stored, keys
from llmcache_operator.core.children.server import HTTP_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.kube import Kube

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("models")]


@pytest.fixture(scope="module")
def tiers(kube: Kube, models: None) -> Iterator[Service]:  # noqa: ARG001
    """Provide two engines, a server beside each and a Valkey, in a namespace that takes restricted pods only."""
    kube.run("label", "namespace", kube.namespace, "pod-security.kubernetes.io/enforce=restricted")
    kube.apply(
        manifest(
            "tiers",
            engine={"replicas": 2},
            cache={"topology": "PerEngine", "l2": {"valkey": {"managed": {"memory": "512Mi", "cpu": "50m"}}}},
        )
    )
    one = Service(kube, "tiers")
    one.wait("Ready", "True")
    one.wait("L2Ready", "True", seconds=60)
    yield one
    kube.run("delete", "llmcs", one.name)


def prompt() -> str:
    """Return a prompt of some 2,000 tokens that nobody has sent before."""
    return f"{uuid.uuid4()}: " + " ".join(f"there were {number} small boats," for number in range(300))


def test_the_other_engine_takes_a_prefix_through_the_l2(tiers: Service) -> None:
    one, other = tiers.engines()
    text, before = prompt(), keys(tiers)
    first = tiers.ask_engine(one, text)
    await_stored(tiers, before, first.tokens.total)
    shared = tiers.ask_engine(other, text)

    assert first.tokens.computed == first.tokens.total
    assert shared.tokens.server >= 0.9 * (first.tokens.total // CHUNK * CHUNK)
    assert tiers.status()["cache"]["layout"] == "PerEngine, L2: valkey"


def test_nothing_outside_a_pod_reaches_the_port_that_unpickles(tiers: Service) -> None:
    """Without any NetworkPolicy: the local cluster enforces none."""
    one, other = tiers.engines()
    address = (tiers.kube.get("pod", other) or {})["status"]["podIP"]
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)"

    def tried(host: str, port: str) -> str:
        command = ["exec", one, "-c", "engine", "--", "python3", "-c", connect, host, port]
        try:
            return tiers.kube.run(*command)
        except Exception as error:  # noqa: BLE001 - kubectl's own words are what is looked at
            return str(error)

    assert "Connection refused" in tried(address, "5555")
    assert "Connection refused" in tried(address, "6380")
    assert tried("127.0.0.1", "5555") == ""


@pytest.mark.parametrize("fault", ["hangs", "is full", "wants another password"])
def test_a_fault_of_valkey_is_named_and_stops_nobody(tiers: Service, fault: str) -> None:
    """`make bench-faults` has those that take longer, too: one that is slow, and one that is gone."""
    one, _ = tiers.engines()
    with FAULTS[fault].inject(tiers):
        named = tiers.wait("L2Ready", "False", FAULTS[fault].reason, seconds=60)
        answered = tiers.ask_engine(one, prompt())

    assert answered.tokens.computed == answered.tokens.total
    assert "Engines serve on without it" in named["message"]
    assert tiers.condition("Ready")["status"] == "True"
    tiers.wait("L2Ready", "True", seconds=90)


def test_an_engine_is_registered_again_with_a_server_that_was_back_at_once(tiers: Service) -> None:
    """LMCache's own pings do not notice: the server is back before one of them fails."""
    one, _ = tiers.engines()
    before = restarts(tiers, one)
    kill(tiers, one, "lmcache server")
    again = before | {"cache-server": before["cache-server"] + 1}

    def is_back() -> bool:
        return restarts(tiers, one) == again and listed(tiers, one) is not None

    wait_until("the server is back", is_back, seconds=120)
    tiers.ask_engine(one, prompt())
    wait_until("the engine is registered", lambda: listed(tiers, one), seconds=60)
    await_stores(tiers, one)
    assert restarts(tiers, one) == again


def test_a_server_that_restarts_finds_room_beside_the_pool_that_its_engine_still_has(tiers: Service) -> None:
    """A file stands for that pool. LMCache would otherwise do without shared memory, for good."""
    one, _ = tiers.engines()
    before = restarts(tiers, one)
    in_engine = ["exec", one, "-c", "engine", "--"]
    file = "/dev/shm/old"  # noqa: S108 - the pod's own
    tiers.kube.run(*in_engine, "dd", "if=/dev/zero", f"of={file}", "bs=1M", "count=400")
    try:
        kill(tiers, one, "lmcache server")

        def is_back() -> bool:
            return restarts(tiers, one) != before and listed(tiers, one) is not None

        wait_until("the server is back", is_back, seconds=120)
        log = tiers.kube.run("logs", one, "-c", "cache-server", "--tail=-1")
    finally:
        tiers.kube.run(*in_engine, "rm", file)

    assert "Checking if shm capacity" in log
    assert "falling back to pickle" not in log
    await_stores(tiers, one)


def test_a_server_whose_guard_was_killed_is_started_again_and_has_its_l2(tiers: Service) -> None:
    """LMCache connects once: it would say that it is well, find nothing and store nothing."""
    one, _ = tiers.engines()
    before = restarts(tiers, one)
    kill(tiers, one, "llmcache-l2-guard")
    both = before | {name: before[name] + 1 for name in ("cache-server", "l2-guard")}
    wait_until("guard and server are back", lambda: restarts(tiers, one) == both, seconds=180)
    await_stores(tiers, one)


def kill(service: Service, pod: str, command: str) -> None:
    """Kill a process of a pod, or skip where its processes are not on this machine."""
    try:
        send(service.kube.get("pod", pod) or {}, command, signal.SIGKILL)
    except LookupError as error:
        pytest.skip(str(error))


def await_stores(service: Service, engine: str) -> None:
    """Wait until what an engine computes is in Valkey.

    Its scheduler pings for itself, and leaves LMCache alone until one of its pings was good again.
    """
    stored = keys(service)

    def stores() -> bool:
        service.ask_engine(engine, prompt())
        return keys(service) > stored

    wait_until("what it computes is stored", stores, seconds=60)


def restarts(service: Service, pod: str) -> dict[str, int]:
    """Return how often each container of a pod was started again."""
    status = (service.kube.get("pod", pod) or {})["status"]
    return {one["name"]: one["restartCount"] for one in status["initContainerStatuses"] + status["containerStatuses"]}


def listed(service: Service, pod: str) -> list[int] | None:
    """Return the engines that the LMCache server beside one knows; None where it does not answer."""
    try:
        text = service.kube.raw(pod, HTTP_PORT, "/status")
    except ClusterError:
        return None
    found: list[int] = json.loads(text)["registered_non_cuda_instance_ids"]
    return found


def test_prefixes_outlive_every_engine_and_server(tiers: Service) -> None:
    old = tiers.engines()
    text, before = prompt(), keys(tiers)
    first = tiers.ask_engine(old[0], text)
    await_stored(tiers, before, first.tokens.total)
    tiers.kube.run("delete", "pod", *old, "--grace-period=5", "--wait=false")
    engines = tiers.renewed(old)
    again = tiers.ask_engine(engines[1], text)

    assert again.tokens.server >= 0.9 * (first.tokens.total // CHUNK * CHUNK)
    assert again.is_like(first)
