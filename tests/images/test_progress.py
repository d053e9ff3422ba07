"""What a person learns of a build that fails, and what it leaves behind."""

import os
import time
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.images.progress import logged
from e2e.images.progress import running as running_beside


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_failure_names_the_image_the_log_and_the_last_lines(cache: Path) -> None:
    with pytest.raises(ClusterError) as caught:
        logged(["sh", "-c", "echo the cause; exit 3"], "building localhost/llmcache/router:1", seconds=60)
    log = cache / "llmcache/images/log/building-localhost-llmcache-router-1.log"
    assert "building localhost/llmcache/router:1 failed (3)" in str(caught.value)
    assert str(log) in str(caught.value)
    assert str(caught.value).endswith("the cause")
    assert log.read_text() == "the cause\n"


def test_a_program_that_works_keeps_its_log(cache: Path) -> None:
    logged(["sh", "-c", "echo fine; echo [warning] >&2"], "building", seconds=60)
    assert (cache / "llmcache/images/log/building.log").read_text() == "fine\n[warning]\n"


def test_a_program_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path}/child; wait"
    with pytest.raises(ClusterError, match=r"building did not end in time"):
        logged(["sh", "-c", script], "building", seconds=1)
    child = int((tmp_path / "child").read_text())
    while running(child):
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A child whose parent has ended waits for process 1 to collect it.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_program_beside_a_body_that_fails_is_ended(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 1000"

    def fail_once_it_runs() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.02)
        raise KeyError

    with pytest.raises(KeyError), running_beside(["sh", "-c", script], "building", seconds=60):
        fail_once_it_runs()
    assert not running(int((tmp_path / "pid").read_text()))


def test_a_failure_beside_a_body_is_told_after_it(tmp_path: Path) -> None:
    with (
        pytest.raises(ClusterError, match=r"building failed \(3\)"),
        running_beside(["sh", "-c", "exit 3"], "building", seconds=60),
    ):
        (tmp_path / "body").touch()
    assert (tmp_path / "body").exists()
