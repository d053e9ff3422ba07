"""Real vLLM and LMCache: engines share KV, and the status tells it truly."""

from __future__ import annotations

import contextlib
import time
import uuid
from datetime import datetime
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml
from openai import OpenAI

from e2e import counters
from e2e.causes.real.node import lift_limit, limit_rate
from e2e.counters import Tokens
from e2e.install import ROOT
from e2e.kube import wait_until
from e2e.services import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletionMessageParam

    from e2e.cluster.handle import Handle
    from e2e.kube import Json, Kube

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("models")]
QUIET_SECONDS = 120
SETTLE_SECONDS = 10
"""Longer than the operator's status interval: what the last traffic changed has been written by then."""


@pytest.fixture(scope="module")
def chat(kube: Kube, models: None) -> Iterator[Service]:  # noqa: ARG001
    """Provide the quickstart's service: two engines with SmolLM2, one cache server, two routers."""
    text = (ROOT / "deploy/examples/quickstart.yaml").read_text()
    resource = yaml.safe_load(text)
    resource["spec"]["model"].pop("servedName")
    kube.apply(resource)
    service = Service(kube, resource["metadata"]["name"])
    service.wait("Ready", "True")
    service.wait("CacheSharingVerified", "True", "Verified", seconds=120)
    # From here on, tests count the engines' prompt tokens themselves.
    service.patch({"cache": {"selfTest": "Disabled"}})
    service.wait("CacheSharingVerified", "Unknown", "Disabled", seconds=60)
    yield service
    kube.run("delete", "llmcs", service.name)


def fresh_prompt(words: int) -> str:
    """Return a prompt that nobody has sent before; about 1.9 tokens a word with SmolLM2's tokenizer."""
    start = uuid.uuid4().hex
    return f"{start} " + " ".join(f"item {number} of the list," for number in range(words // 5))


def counted(chat: Service) -> Tokens:
    """Return what all engines together have counted so far."""
    return sum(counters.read_all(chat.kube, chat.name).values(), Tokens())


def empty_window(chat: Service) -> None:
    """Wait until all earlier traffic has left the operator's window: without traffic the status shows no rate.

    A prompt that is asked twice comes first, for before its hits are seen, a status without a rate may only be old.
    """
    engine, _ = chat.engines()
    prompt = fresh_prompt(100)
    for _ in range(2):
        chat.ask_engine(engine, prompt)
    caught_up(chat, counted(chat))
    wait_until("the window is empty", lambda: "hitRatePercent" not in chat.status()["cache"], seconds=150)


def caught_up(chat: Service, tokens: Tokens) -> Json:
    """Wait until the status knows of all hits that the engines have counted, and return its part about the cache."""

    def told() -> Json | None:
        cache: Json = chat.status().get("cache", {})
        return cache if cache.get("tokensReused") == tokens.engine + tokens.server else None

    cache: Json = wait_until("status.cache caught up with the counters", told, seconds=60, every=0.5)
    return cache


def test_engine_b_takes_from_lmcache_what_engine_a_computed(chat: Service) -> None:
    a, b = chat.engines()
    prompt = fresh_prompt(1100)

    cold, shared = chat.ask_engine(a, prompt), chat.ask_engine(b, prompt)

    assert cold.tokens.total >= 1500
    assert cold.tokens.computed == cold.tokens.total
    assert shared.tokens.total == cold.tokens.total
    assert shared.tokens.server >= 1024


def test_a_client_that_leaves_while_its_kv_is_loaded_takes_no_engine_with_it(chat: Service) -> None:
    a, b = chat.engines()
    chat.ask_engine(a, prompt := fresh_prompt(1100))
    pod, (server,) = chat.kube.get("pod", b) or {}, chat.kube.pods(chat.name, "cache-server")
    url = f"http://{pod['status']['podIP']}:{counters.ENGINE_PORT}/v1/completions"
    before = counters.read(chat.kube, b)

    with slowed(server, "40mbit"), pytest.raises(httpx.ReadTimeout):
        # 35 MB of KV: seven seconds.
        httpx.post(url, json={"model": chat.name, "prompt": prompt, "max_tokens": 1}, timeout=2, trust_env=False)
    chat.ask_engine(b, fresh_prompt(50))

    after = chat.kube.get("pod", b) or {}
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    assert (counters.read(chat.kube, b) - before).computed < 1024, "it was the load that was left, no prefill"


@contextlib.contextmanager
def slowed(pod: Json, rate: str) -> Iterator[None]:
    """Limit what leaves a pod of the local cluster."""
    try:
        limit_rate(pod, rate)
    except LookupError as error:
        pytest.skip(str(error))
    try:
        yield
    finally:
        lift_limit(pod)


def test_status_shows_the_tiers_that_the_engines_counted(chat: Service) -> None:
    empty_window(chat)
    a, b = chat.engines()
    before = counted(chat)
    chat.ask_engine(a, prompt := fresh_prompt(600))
    chat.ask_engine(a, prompt)
    chat.ask_engine(b, prompt)
    after = counted(chat)
    moved = after - before

    cache = caught_up(chat, after)
    assert moved.server > 0
    assert abs(cache["tiers"]["engine"] - 100 * moved.engine / moved.total) <= 2
    assert abs(cache["tiers"]["server"] - 100 * moved.server / moved.total) <= 2
    assert abs(cache["hitRatePercent"] - 100 * (moved.engine + moved.server) / moved.total) <= 2
    assert cache["sampledEngines"] == "2/2"
    assert cache["usedPercent"] > 0


def test_a_chat_through_the_router_with_the_openai_client_reuses_its_history(chat: Service) -> None:
    before = counted(chat)
    history: list[ChatCompletionMessageParam] = [{"role": "system", "content": fresh_prompt(500)}]
    with chat.kube.forward(f"service/{chat.name}-router", 80) as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="unused", timeout=120, max_retries=0)
        assert [model.id for model in client.models.list()] == [chat.name]
        for question in ("What is on the list?", "And what else?", "Sum it up."):
            history.append({"role": "user", "content": question})
            stream = client.chat.completions.create(
                model=chat.name, messages=history, max_tokens=16, temperature=0, stream=True
            )
            answer = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
            history.append({"role": "assistant", "content": answer})
            assert answer

    moved = counted(chat) - before
    assert moved.engine + moved.server > 0.5 * moved.total


def test_the_service_was_ready_soon_after_its_slowest_pod(chat: Service) -> None:
    """Ready on the resource costs at most 5 s more than the pods themselves took."""
    ready = chat.condition("Ready")
    if ready["status"] != "True":
        pytest.fail(f"not ready: {ready}")
    pods = [pod for part in ("engine", "cache-server", "router") for pod in chat.kube.pods(chat.name, part)]
    times = [
        datetime.fromisoformat(condition["lastTransitionTime"])
        for pod in pods
        for condition in pod["status"]["conditions"]
        if condition["type"] == "Ready"
    ]

    lag = (datetime.fromisoformat(ready["lastTransitionTime"]) - max(times)).total_seconds()
    assert lag <= 5


def test_an_idle_service_is_not_written_to(chat: Service, cluster: Handle) -> None:
    if cluster.audit_log() is None:
        pytest.skip("this cluster keeps no audit log of writes that the test could read")
    user = "system:serviceaccount:llmcache-system:llmcache-operator"

    def writes() -> list[str]:
        events = [event for event in cluster.audit_log() or [] if event["user"]["username"] == user]
        return [event["auditID"] for event in events if event["objectRef"]["resource"] != "leases"]

    def quiet_for(seconds: float) -> bool:
        return bool(known) and time.monotonic() - changed >= seconds

    empty_window(chat)
    known, changed = writes(), time.monotonic()

    def settled() -> bool:
        nonlocal known, changed
        if (now := writes()) != known:
            known, changed = now, time.monotonic()
        return quiet_for(SETTLE_SECONDS)

    wait_until("the operator has told all that the traffic changed", settled, seconds=60)
    wait_until("the quiet time is over", lambda: quiet_for(SETTLE_SECONDS + QUIET_SECONDS), seconds=200)
    assert writes() == known
