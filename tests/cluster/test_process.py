import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from e2e.cluster import process
from e2e.cluster.process import Identity, Running

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as child:
        yield child
        child.kill()


def running(pid: int) -> Running:
    identity = process.identify(pid)
    assert identity is not None
    return Running(identity, ("sleep",))


def write(pidfile: Path, found: Running) -> Path:
    pidfile.write_text(json.dumps(asdict(found)))
    return pidfile


def test_a_pidfile_leads_to_its_living_process(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    found = running(sleeper.pid)

    assert process.read(write(tmp_path / "p", found)) == found


def test_a_reused_id_is_another_process(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    found = running(sleeper.pid)
    earlier = replace(found, identity=replace(found.identity, started=1))
    before_boot = replace(found, identity=replace(found.identity, boot="before"))

    assert process.read(write(tmp_path / "earlier", earlier)) is None
    assert process.read(write(tmp_path / "before", before_boot)) is None


def test_stopping_a_process_that_is_gone_spares_the_one_that_has_its_id_now(
    sleeper: subprocess.Popen[bytes],
) -> None:
    found = running(sleeper.pid)

    process.stop(replace(found, identity=replace(found.identity, started=1)), grace=1)

    assert found.alive()


def test_a_zombie_is_not_alive() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})

    assert process.wait_until(lambda: process.identify(pid) is None, seconds=10)


@pytest.mark.parametrize("content", ["", "{"])
def test_a_broken_pidfile_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "p").write_text(content)

    assert process.read(tmp_path / "p") is None
    assert process.read(tmp_path / "missing") is None


def test_stop_waits_until_the_process_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    found = running(sleeper.pid)

    process.stop(found, grace=10)

    assert not found.alive()


def test_stop_kills_what_ignores_sigterm() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = running(child.pid)

        process.stop(found, grace=0.2)

        assert not found.alive()


def test_kill_marked_ends_what_carries_the_mark_and_nothing_else(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    marked = os.environ | {process.MARK: str(tmp_path)}
    script = "import subprocess; subprocess.run(['sleep', '600'])"
    with subprocess.Popen([sys.executable, "-c", script], env=marked):
        assert process.wait_until(lambda: len(list(process.marked(tmp_path))) == 2, seconds=10)

        process.kill_marked(tmp_path)

        assert list(process.marked(tmp_path)) == []
    assert sleeper.poll() is None


def test_wait_until_gives_up_in_time() -> None:
    begin = time.monotonic()

    assert not process.wait_until(lambda: False, seconds=0.1)
    assert time.monotonic() - begin >= 0.1


def test_an_identity_is_written_and_read_unchanged(tmp_path: Path) -> None:
    identity = process.identify(os.getpid())
    assert identity is not None
    file = tmp_path / "p"
    file.write_text(json.dumps(asdict(identity)))

    assert Identity(**json.loads(file.read_text())) == identity
