"""What makes two models equal, and what the gate says of a folder that holds none."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcache_runtime import fingerprint as module
from llmcache_runtime.fingerprint import UnreadableModelError, fingerprint, last_change, list_files


def fingerprint_of(folder: Path) -> str:
    return fingerprint(folder, list_files(folder), lambda *_: None)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SEGMENT_BYTES", 4)
    monkeypatch.setattr(module, "_READ_BYTES", 3)


def test_a_copy_with_other_times_is_the_same_model(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    for file in copy.iterdir():
        os.utime(file, (1, 1))
    assert fingerprint_of(copy) == fingerprint_of(model)


@pytest.mark.parametrize("position", range(len(b"weights")))
def test_one_changed_byte_anywhere_makes_another_model(model: Path, position: int) -> None:
    before = fingerprint_of(model)
    content = bytearray(b"weights")
    content[position] ^= 1
    (model / "model.safetensors").write_bytes(content)
    assert fingerprint_of(model) != before


def test_a_changed_byte_is_seen_though_size_and_times_stay(model: Path) -> None:
    weights = model / "model.safetensors"
    before, times = fingerprint_of(model), weights.stat()
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint_of(model) != before


def test_a_renamed_file_makes_another_model(model: Path) -> None:
    before = fingerprint_of(model)
    (model / "model.safetensors").rename(model / "other.safetensors")
    assert fingerprint_of(model) != before


names = st.text("ab.", min_size=1, max_size=3).filter(lambda name: not name.startswith(".."))
models = st.dictionaries(names.filter(lambda name: name != "."), st.binary(max_size=9), max_size=4)


@given(models, models)
def test_models_have_one_fingerprint_if_and_only_if_they_have_the_same_files(
    one: Mapping[str, bytes], other: Mapping[str, bytes]
) -> None:
    with written(one) as first, written(other) as second:
        assert (fingerprint_of(first) == fingerprint_of(second)) == (one == other)


@contextmanager
def written(files: Mapping[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in {"config.json": b"{}", **files}.items():
            (folder / file).write_bytes(content)
        yield folder


def test_a_hub_snapshot_of_links_is_the_model_that_it_links_to(model: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for file in model.iterdir():
        (snapshot / file.name).symlink_to(file)
    assert fingerprint_of(snapshot) == fingerprint_of(model)


@pytest.mark.parametrize("name", [".cache", ".git", ".gitattributes", "lost+found", "..data"])
def test_bookkeeping_is_no_part_of_a_model(model: Path, name: str) -> None:
    before = fingerprint_of(model)
    (model / name).mkdir()
    (model / name / "file").write_text("something")
    assert fingerprint_of(model) == before


def test_files_in_folders_count(model: Path) -> None:
    before = fingerprint_of(model)
    (model / "adapters").mkdir()
    (model / "adapters" / "a.safetensors").write_bytes(b"a")
    assert fingerprint_of(model) != before


def test_progress_ends_at_the_size_of_the_model(model: Path) -> None:
    seen: list[tuple[int, int]] = []
    fingerprint(model, list_files(model), lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(b"{}weights"),) * 2


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModelError, match=r"absent is not a folder"):
        list_files(tmp_path / "absent")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModelError, match=r"is empty"):
        list_files(tmp_path)


def test_a_folder_without_configuration_says_what_it_holds(model: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(UnreadableModelError, match=r"no config\.json.*it has model\.safetensors"):
        list_files(model)


def test_a_model_in_the_format_of_mistral_is_a_model(model: Path) -> None:
    (model / "config.json").rename(model / "params.json")
    assert fingerprint_of(model)


def test_a_link_to_a_missing_file_is_named(model: Path) -> None:
    (model / "model-2.safetensors").symlink_to(model / "blobs" / "2")
    with pytest.raises(UnreadableModelError, match=r"model-2\.safetensors is missing, or is a link"):
        list_files(model)


def test_a_link_to_a_folder_above_it_is_named(model: Path) -> None:
    (model / "again").symlink_to(model)
    with pytest.raises(UnreadableModelError, match=r"again is a link to a folder above"):
        list_files(model)


def test_a_file_that_vanishes_while_it_is_read_is_named(model: Path) -> None:
    files = list_files(model)
    (model / "model.safetensors").unlink()
    with pytest.raises(UnreadableModelError, match=r"model\.safetensors is missing"):
        fingerprint(model, files, lambda *_: None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_only_its_owner_may_read_is_named_with_the_user() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "config.json").write_text("{}")
        (folder / "config.json").chmod(0o600)
        with running_as(65532), pytest.raises(UnreadableModelError, match=r"user 65532 may not read .*config\.json"):
            fingerprint_of(folder)


@contextmanager
def running_as(user: int) -> Iterator[None]:
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.timeout(20)
def test_links_that_lead_in_circles_among_bookkeeping_do_not_hold_the_gate_up(model: Path) -> None:
    (model / ".cache").mkdir(exist_ok=True)
    for name in "abc":
        (model / ".cache" / name).symlink_to("..", target_is_directory=True)

    assert last_change(model) > 0


def test_a_name_that_is_no_utf8_is_a_name(model: Path) -> None:
    before = fingerprint_of(model)
    Path(os.fsdecode(os.fsencode(model) + b"/caf\xe9.txt")).write_text("x")

    assert fingerprint_of(model) != before
