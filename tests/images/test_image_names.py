"""An image is built again if, and only if, something that it is made of has changed."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.images import spec
from e2e.images.spec import IMAGES, ROOT, Image


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the repository that a test may change; names are computed anew from it."""
    copy = tmp_path / "repository"
    skipped = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=skipped)
    monkeypatch.setattr(spec, "ROOT", copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec.ref.cache_clear()
    yield copy
    spec.ref.cache_clear()


def names() -> dict[str, str]:
    spec.ref.cache_clear()
    return spec.refs()


def changed_by(file: Path) -> set[str]:
    before = names()
    file.write_text(file.read_text() + "\n")
    after = names()
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("operator/llmcache_operator/__init__.py", {"operator", "router"}),
        ("runtime/llmcache_runtime/gate.py", {"operator", "router"}),
        ("requirements/operator.txt", {"operator"}),
        ("requirements/router.txt", {"router"}),
        ("requirements/engine-cpu.txt", {"engine-cpu", "models"}),
        ("requirements/models.txt", {"models"}),
        ("runtime/images/models/make_models.py", {"models"}),
        ("runtime/images/base/rootfs.sh", {"operator", "router", "valkey", "engine-cpu", "models"}),
        ("runtime/images/valkey/Dockerfile", {"valkey"}),
        ("README.md", set()),
    ],
)
def test_a_change_reaches_the_images_made_of_it_and_no_other(sources: Path, file: str, images: set[str]) -> None:
    assert changed_by(sources / file) == images


@pytest.mark.usefixtures("sources")
def test_names_stay_while_nothing_changes() -> None:
    assert names() == names()


def test_a_renamed_file_is_a_change(sources: Path) -> None:
    before = names()
    code = sources / "runtime/llmcache_runtime/gate.py"
    code.rename(code.with_name("door.py"))
    assert names()["router"] != before["router"]


@pytest.mark.parametrize("image", [*IMAGES.values(), spec.BASE], ids=lambda image: image.name)
def test_every_file_that_a_dockerfile_copies_counts_for_the_name(image: Image) -> None:
    copies = re.findall(r"^(?:COPY|ADD) (?!--from)(.+) \S+$", (ROOT / image.dockerfile).read_text(), re.MULTILINE)
    copied = {path for line in copies for path in line.split()}
    inside = {path for path in copied if any(path == known or path.startswith(f"{known}/") for known in image.inputs)}
    assert copied == inside


@pytest.mark.usefixtures("sources")
def test_a_build_sees_a_copy_of_its_sources_and_nothing_else() -> None:
    with spec.staged([IMAGES["router"]]) as context:
        top = {path.relative_to(context).parts[0] for path in context.rglob("*") if path.is_file()}
        assert top == {"pyproject.toml", "LICENSE", "operator", "runtime", "requirements"}
        assert not list(context.rglob("*.pyc"))
    assert not context.exists()


def test_a_file_that_changed_after_the_image_was_named_stops_the_build(sources: Path) -> None:
    names()
    (sources / "runtime/llmcache_runtime/gate.py").write_text("")
    with pytest.raises(ClusterError, match=r"image router have just changed"), spec.staged([IMAGES["router"]]):
        pass


def test_an_unknown_image_is_named_with_those_there_are() -> None:
    with pytest.raises(ClusterError, match=r"no image rooter: choose from operator, router"):
        spec.select(("rooter",))


@pytest.mark.parametrize("image", IMAGES.values(), ids=lambda image: image.name)
def test_images_run_as_a_user_without_rights_from_an_overridable_base(image: Image) -> None:
    text = (ROOT / image.dockerfile).read_text()
    final = text.split("\nFROM ")[-1]
    assert "\nUSER 65532:65532\n" in final
    assert final.startswith(("${BASE}\n", "base\n"))
    assert re.search(r"^ARG BASE=docker\.io/library/\S+$", text, re.MULTILINE)


@pytest.mark.parametrize("lock", ["build", "operator", "router", "engine-cpu", "models"])
def test_locks_pin_every_package_with_hashes_and_name_no_registry(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    pins = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip())
    assert all(re.match(r"[a-z0-9.-]+==\S+.* --hash=sha256:", pin.replace("\\\n", "")) for pin in pins)
    assert "://" not in text
    assert "index-url" not in text
