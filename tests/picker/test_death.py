"""A picker that dies or leaves: the gateway goes on without it, and sessions stay where they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import httpx

from tests.fakes.engine import Engine, serve
from tests.picker import gateway
from tests.picker.conftest import within
from tests.ports import free_port
from tests.router.conftest import chat, events, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes.engine import Served

CHAT = "/v1/chat/completions"
SESSIONS = 8


@contextlib.asynccontextmanager
async def picker(engines: list[Served], *flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The command, as a process of its own; gives it and its port."""
    port, private = free_port(), free_port()
    command = [sys.executable, "-m", "llmcache_runtime.picker.main", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--private-port", str(private), "--metrics-interval", "0", *flags]
    command += [word for served in engines for word in ("--engine", served.url)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )

    async def ready() -> bool:
        assert process.returncode is None
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"http://127.0.0.1:{private}/readyz")).status_code == 200
        return False

    try:
        await within(ready)
        yield process, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def engines(count: int) -> AsyncIterator[list[Served]]:
    served = [await serve(Engine(f"engine-{i}")) for i in range(count)]
    yield served
    for one in served:
        await one.stop()


async def test_a_killed_picker_costs_no_request_and_no_affinity(tmp_path: Path) -> None:
    async with (
        engines(3) as served,
        picker(served) as (process, port),
        gateway.running(gateway.configuration(port, [e.port for e in served]), tmp_path) as envoy,
        httpx.AsyncClient(base_url=envoy.url, timeout=20, trust_env=False) as client,
    ):
        stream = asyncio.create_task(client.post(CHAT, json=chat("running", stream=True, max_tokens=100)))
        await until(lambda: any(e.engine.running for e in served))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        homes: dict[int, list[str]] = defaultdict(list)
        for turn in range(4):
            for session in range(SESSIONS):
                body, header = chat(f"{session} {turn}"), {"x-session-id": f"session {session}"}
                answer = await client.post(CHAT, json=body, headers=header)
                assert answer.status_code == 200
                homes[session].append(answer.json()["engine"])
        named = {"x-gateway-destination-endpoint": f"127.0.0.1:{served[0].port}"}
        same = {"x-session-id": next(f"session {s}" for s, home in homes.items() if home[0] != "engine-0")}
        cheat = await client.post(CHAT, json=chat(), headers=named | same)
        closed = await client.post("/v1/load_lora_adapter")

        assert all(len(set(home)) == 1 for home in homes.values()), "a session left its engine"
        assert len({home[0] for home in homes.values()}) > 1
        assert events((await stream).text)[-1] == "[DONE]"
        assert await envoy.counter("failure_mode_allowed") > SESSIONS
        assert cheat.json()["engine"] != "engine-0", "a client named its engine"
        assert closed.status_code == 404


async def test_a_picker_that_hangs_delays_requests_and_costs_none(tmp_path: Path) -> None:
    async with engines(2) as served, picker(served) as (process, port):
        config = gateway.configuration(port, [e.port for e in served])
        gateway.filter_of(config)["message_timeout"] = "0.2s"
        async with (
            gateway.running(config, tmp_path) as envoy,
            httpx.AsyncClient(base_url=envoy.url, timeout=20, trust_env=False) as client,
        ):
            process.send_signal(signal.SIGSTOP)
            answers = [await client.post(CHAT, json=chat(f"{i}")) for i in range(3)]

            assert [answer.status_code for answer in answers] == [200] * 3
            assert await envoy.counter("ext_proc.message_timeouts") >= 3


async def test_a_picker_that_is_told_to_stop_leaves_streams_alone(tmp_path: Path) -> None:
    """Whether the gateway would fail open or not: what runs needs no picker any more."""
    async with (
        engines(1) as served,
        picker(served, "--grace", "0.2", "--drain-timeout", "60") as (process, port),
    ):
        config = gateway.configuration(port, [served[0].port])
        gateway.filter_of(config)["failure_mode_allow"] = False
        async with (
            gateway.running(config, tmp_path) as envoy,
            httpx.AsyncClient(base_url=envoy.url, timeout=20, trust_env=False) as client,
        ):
            body = chat(stream=True, max_tokens=300)
            streams = [asyncio.create_task(client.post(CHAT, json=body)) for _ in range(4)]
            await until(lambda: served[0].engine.running == 4)
            process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), 10)
            assert served[0].engine.running == 4, "it went before them"
            texts = [(await stream).text for stream in streams]

    assert code == os.EX_OK
    assert [events(text)[-1] for text in texts] == ["[DONE]"] * 4
