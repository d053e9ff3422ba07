"""How the repository is laid out, and what must never get into it."""

from __future__ import annotations

import operator
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NAMESPACES = ("operator", "runtime", "tests", "e2e")
MACHINE = re.compile(
    r"/(?:work|root|home)/\w"  # folders of one machine
    r"|https?://[^/\s\"']*(?:mirror|proxy|artifactory|nexus|internal|corp)\b"  # registries of one site
    r"|(?:--|_)(?:extra-)?index-url[= ]\S+://",
    re.IGNORECASE,
)
# Files whose business such words are: this one, and checksums of public modules.
EXEMPT = {"tests/test_layout.py"}
MADE_UP = re.compile(r"containerd/root/")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(("operator", "runtime"))}
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=100, check=False)


def tracked() -> list[Path]:
    listed = run("git", "ls-files", "-z")
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("folder", NAMESPACES)
def test_folders_that_only_hold_packages_are_no_packages(folder: str) -> None:
    """An __init__.py in operator/ would take the place of Python's own module of that name."""
    assert not (REPOSITORY / folder / "__init__.py").exists()


def test_pythons_own_operator_is_the_one_that_is_imported() -> None:
    assert operator.itemgetter(1)("ab") == "b"
    elsewhere = run(sys.executable, "-S", "-c", "import operator; operator.itemgetter(0)")
    assert elsewhere.returncode == 0, elsewhere.stderr


def test_the_wheel_holds_the_two_packages_and_nothing_else(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path))
    assert built.returncode == 0, built.stdout + built.stderr

    (wheel,) = tmp_path.glob("*.whl")
    names = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    tops = {name.parts[0] for name in names if not name.parts[0].endswith(".dist-info")}
    assert tops == {"llmcache_operator", "llmcache_runtime"}
    assert not [name for name in names if name.parts[-1].startswith("test_") or "tests" in name.parts]


def test_generated_files_are_what_the_models_say() -> None:
    checked = run(sys.executable, "crds/generate.py", "--check")

    assert checked.returncode == 0, checked.stderr


def test_layers_import_downwards_only() -> None:
    linted = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")

    assert linted.returncode == 0, linted.stdout


def test_no_tracked_file_names_a_machine_or_its_registries() -> None:
    found = []
    for path in tracked():
        file = REPOSITORY / path
        if str(path) in EXEMPT or path.suffix in (".sum", ".png", ".gif", ".svg") or not file.is_file():
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            if MACHINE.search(MADE_UP.sub("", line)):
                found.append(f"{path}:{number}: {line.strip()[:100]}")

    assert found == []
