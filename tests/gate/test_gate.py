"""The gate as the init container runs it: links, what it waits for, how it ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmcache_runtime import gate
from llmcache_runtime.fingerprint import ModelFile, fingerprint, last_change

PATIENCE_SECONDS = 60


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@contextmanager
def gate_process(model: Path, run_folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    arguments = [
        "--cache",
        f"127.0.0.1:{port}",
        "--source",
        str(model),
        "--identity",
        "1d",
        "--link-dir",
        str(run_folder),
    ]
    command = [sys.executable, "-m", "llmcache_runtime.gate", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(gate.__file__).parents[1])}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def closed_port() -> Iterator[tuple[socket.socket, int]]:
    """A port that refuses connections until somebody calls listen() on the socket."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server, server.getsockname()[1]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_gate_opens_when_the_cache_server_listens(model: Path, run_folder: Path) -> None:
    with closed_port() as (server, port), gate_process(model, run_folder, port) as process:
        wait_until((run_folder / "model-path").exists)
        assert process.poll() is None
        server.listen()
        assert process.wait(PATIENCE_SECONDS) == 0


def test_sigterm_ends_a_waiting_gate(model: Path, run_folder: Path) -> None:
    with closed_port() as (_, port), gate_process(model, run_folder, port) as process:
        wait_until((run_folder / "model-path").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


def test_a_folder_without_a_model_ends_the_gate_with_a_message(model: Path, run_folder: Path) -> None:
    (model / "config.json").unlink()
    with gate_process(model, run_folder, 1) as process:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "no config.json" in errors
    assert "Traceback" not in errors


def test_a_failure_is_written_where_kubernetes_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(gate, "_TERMINATION_LOG", log)
    with pytest.raises(SystemExit, match="1"):
        gate._fail("what went wrong")
    assert log.read_text() == "what went wrong"


def test_the_model_path_is_a_link_to_the_model_that_names_the_identity(model: Path, run_folder: Path) -> None:
    link = gate.link_model(model, run_folder, "1d")
    assert (run_folder / "model-path").read_text() == str(link)
    assert link.name.startswith("1d-")
    assert link.resolve() == model.resolve()


def test_repeating_the_gate_changes_nothing(model: Path, run_folder: Path) -> None:
    first = gate.link_model(model, run_folder, "1d")
    assert gate.link_model(model, run_folder, "1d") == first
    assert sorted(run_folder.iterdir()) == sorted([first, run_folder / "model-path"])


def test_other_weights_at_the_same_place_get_another_path(model: Path, run_folder: Path) -> None:
    before = gate.link_model(model, run_folder, "1d")
    (model / "model.safetensors").write_bytes(b"WEIGHTS")
    assert gate.link_model(model, run_folder, "1d") != before


def test_another_identity_gets_another_path(model: Path, run_folder: Path) -> None:
    assert gate.link_model(model, run_folder, "1d") != gate.link_model(model, run_folder, "2e")


def test_a_model_that_changes_while_it_is_read_is_read_again(
    model: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    def disturbed(folder: Path, files: tuple[ModelFile, ...], progress: Callable[[int, int], None]) -> str:
        nonlocal reads
        reads += 1
        digest = untouched(folder, files, progress)
        if reads == 1:
            (model / "model.safetensors").write_bytes(b"longer weights")
        return digest

    untouched = fingerprint
    monkeypatch.setattr(gate, "fingerprint", disturbed)
    during = gate.link_model(model, run_folder, "1d")
    assert reads == 2
    assert gate.link_model(model, run_folder, "1d") == during


def changed_since(model: Path, run_folder: Path) -> list[str]:
    """Ask as the engine's command does."""
    command = ["find", "-L", str(model), "-cnewer", str(run_folder / "model-path")]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    return sorted(found.stdout.splitlines())


def wait_for_another_tick(model: Path) -> None:
    """Return when the file system's clock, which is coarse, has moved past all changes so far."""
    newest, probe = last_change(model), model.parent / "probe"

    def later() -> bool:
        probe.touch()
        return probe.stat().st_ctime_ns > newest

    wait_until(later)


def test_weights_replaced_after_the_gate_are_found_though_size_and_times_stay(model: Path, run_folder: Path) -> None:
    weights = model / "model.safetensors"
    times = weights.stat()
    gate.link_model(model, run_folder, "1d")
    assert not changed_since(model, run_folder)
    wait_for_another_tick(model)
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert changed_since(model, run_folder) == [str(weights)]


def test_a_folder_moved_into_the_models_place_after_the_gate_is_found(
    model: Path, run_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    gate.link_model(model, run_folder, "1d")
    wait_for_another_tick(model)
    model.rename(tmp_path / "old")
    other.rename(model)
    assert str(model) in changed_since(model, run_folder)


def test_bookkeeping_written_before_the_gate_is_no_change_after_it(model: Path, run_folder: Path) -> None:
    wait_for_another_tick(model)
    (model / ".cache").mkdir()
    (model / ".cache" / "nowhere").symlink_to(model / "absent")
    gate.link_model(model, run_folder, "1d")
    assert not changed_since(model, run_folder)


def test_the_gate_says_that_the_cache_servers_name_does_not_resolve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts = 0

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise socket.gaierror
        return socket.socket()

    monkeypatch.setattr(gate, "_NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(socket, "create_connection", connect)
    gate.await_cache("chat-cache", 5555)
    said = capsys.readouterr().out
    assert "waiting for the cache server chat-cache:5555: its name does not resolve" in said
    assert "chat-cache:5555 answers" in said


@pytest.mark.parametrize("text", ["chat-cache", "chat-cache:", ":5555", "chat-cache:http"])
def test_an_address_without_host_or_port_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"is not HOST:PORT"):
        gate._address(text)


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert gate._address("[::1]:5555") == ("::1", 5555)


@pytest.mark.parametrize("text", ["", "..", "a/b", "-x"])
def test_an_identity_that_is_no_file_name_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"can't be part of a file's name"):
        gate._identity(text)
