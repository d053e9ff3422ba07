"""The command line."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

from llmcache_runtime.router.cli import parse
from llmcache_runtime.router.kube import Api, NotInClusterError
from tests.fakes.engine import Engine, serve
from tests.router.conftest import chat

ENGINE = ["--engine", "http://127.0.0.1:8000"]


def test_the_command_of_the_operator_is_understood() -> None:
    command = (
        "--service ns/chat-engine --port 8000 --private-port 9090 --policy SessionAffinity --session-header X-User"
    )
    settings = parse(command.split())

    assert settings.service == ("ns", "chat-engine")
    assert (settings.port, settings.private_port, settings.policy) == (8000, 9090, "SessionAffinity")
    assert settings.forward.session_header == b"x-user"


def test_engines_are_named_by_url_and_counted_once() -> None:
    settings = parse(["--engine", "http://a:1", "--engine", "http://[fd00::1]:2/", "--engine", "http://a:1"])

    assert [(e.host, e.port) for e in settings.engines] == [("a", 1), ("fd00::1", 2)]


@pytest.mark.parametrize(
    ("argv", "flag"),
    [
        ([], "--service"),
        (["--service", "name-only"], "--service"),
        (["--service", "a/b/c"], "--service"),
        (["--service", "a/b", *ENGINE], "--engine"),
        (["--engine", "127.0.0.1:8000"], "--engine"),
        (["--engine", "https://a:1"], "--engine"),
        (["--engine", "http://a:99999"], "--engine"),
        (["--engine", "http://a:1/v1"], "--engine"),
        ([*ENGINE, "--policy", "Random"], "--policy"),
        ([*ENGINE, "--port", "-1"], "--port"),
        ([*ENGINE, "--port", "9090"], "--private-port"),
        ([*ENGINE, "--grace", "soon"], "--grace"),
        ([*ENGINE, "--tls-cert", "tls.crt"], "--tls-cert"),
        ([*ENGINE, "--grace", "nan"], "--grace"),
        ([*ENGINE, "--reload-ratio", "1.5"], "--reload-ratio"),
        ([*ENGINE, "--max-body", "1M"], "--max-body"),
        ([*ENGINE, "--session-header", "a b"], "--session-header"),
        ([*ENGINE, "--admin-path", "sleep"], "--admin-path"),
        ([*ENGINE, "--admin-path", "/sleep?level=1"], "--admin-path"),
    ],
)
def test_a_bad_flag_is_named(argv: list[str], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse(argv)

    assert exit_info.value.code == 2
    assert flag in capsys.readouterr().err.splitlines()[-1]


def test_every_flag_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out

    assert text.count("(default: ") >= 20


def test_outside_a_cluster_service_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NotInClusterError, match="--engine"):
        Api.in_cluster()


async def run_router(*flags: str) -> asyncio.subprocess.Process:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "llmcache_runtime.router.main", "--host", "127.0.0.1", *flags]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, env=env, stdout=pipe, stderr=pipe)


async def test_the_process_serves_logs_no_text_and_ends_well(unused_tcp_port: int, tmp_path: Path) -> None:
    served = await serve(Engine())
    process = await run_router(
        "--engine", served.url, "--port", str(unused_tcp_port), "--private-port", "0", "--grace", "0"
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}", trust_env=False) as client:
        async with asyncio.timeout(20):
            while True:
                try:
                    answer = await client.post("/v1/chat/completions", json=chat("secret words"))
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    await served.stop()
    entry = json.loads(out.splitlines()[0])

    assert answer.status_code == 200
    assert process.returncode == 0
    assert (entry["status"], entry["path"], entry["attempts"]) == (200, "/v1/chat/completions", 1)
    assert b"secret" not in out + err


async def test_a_taken_port_is_told_without_a_traceback(unused_tcp_port: int) -> None:
    served = await serve(Engine(), unused_tcp_port)
    process = await run_router(*ENGINE, "--port", str(unused_tcp_port), "--private-port", "0")
    _, err = await asyncio.wait_for(process.communicate(), 20)
    await served.stop()

    assert process.returncode == 1
    assert b"can't start" in err
    assert b"Traceback" not in err
