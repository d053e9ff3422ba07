"""The command line of the picker."""

from __future__ import annotations

import pytest

from llmcache_runtime.picker.cli import parse

ENGINE = ["--engine", "http://127.0.0.1:8000"]


def test_the_command_of_the_operator_is_understood() -> None:
    command = "--service ns/chat-engine --port 9002 --private-port 9090 --policy LeastLoaded --session-header X-User"
    settings = parse([*command.split(), "--admin-path", "/v1/load_lora_adapter", "--debug-headers"])

    assert settings.service == ("ns", "chat-engine")
    assert (settings.port, settings.private_port, settings.policy) == (9002, 9090, "LeastLoaded")
    assert settings.forward.session_header == b"x-user"
    assert settings.forward.debug_headers
    assert settings.admin_paths == {"/v1/load_lora_adapter"}


def test_nothing_ever_waits_in_a_picker() -> None:
    assert parse([*ENGINE, "--max-running", "8"]).admission.queue == 0


@pytest.mark.parametrize(
    ("argv", "flag"),
    [
        ([], "--service"),
        ([*ENGINE, "--policy", "Random"], "--policy"),
        ([*ENGINE, "--port", "9090"], "--private-port"),
        ([*ENGINE, "--admin-path", "sleep"], "--admin-path"),
        ([*ENGINE, "--tls-cert", "x"], "--tls-cert"),
        ([*ENGINE, "--tls-key", "x"], "--tls-cert"),
    ],
)
def test_a_bad_flag_is_named(argv: list[str], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)

    assert ended.value.code == 2
    assert flag in capsys.readouterr().err
