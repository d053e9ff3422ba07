import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster import build
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import cache_folder
from e2e.cluster.versions import ETCD, KUBERNETES, MODULES, PROMETHEUS, GoModule

# A `go` that says its version, notes each build, and writes its arguments into the binary.
GO = """#!/bin/sh
if [ "$1" = version ]; then echo "go version go{version} linux/amd64"; exit; fi
for last; do
  case "$last" in -o) next=1;; *) [ -n "$next" ] && out=$last; next=;; esac
done
echo "$last" >> "{calls}"
case "$last" in *{broken}) echo "undefined: nonsense"; exit 1;; esac
echo "$@" > "$out"
"""


def fake_go(home: Path, monkeypatch: pytest.MonkeyPatch, *, broken: str = "nothing", version: str = "1.26.0") -> Path:
    calls = home / "calls"
    calls.touch()
    program = home / "path" / "go"
    program.parent.mkdir(exist_ok=True)
    program.write_text(GO.format(calls=calls, broken=broken, version=version))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return calls


def test_everything_is_built_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_go(home, monkeypatch)

    first, second = build.ensure(), build.ensure()

    packages = [package for module in MODULES for package in module.binaries.values()]
    assert calls.read_text().split() == packages
    assert first == second
    assert all(path.is_file() for path in first.values())


def test_kubernetes_is_told_its_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(home, monkeypatch)

    arguments = build.ensure()["kube-apiserver"].read_text()

    assert f"version.gitVersion={KUBERNETES.version}" in arguments
    assert "-trimpath" in arguments


def test_a_failed_build_names_the_component_and_its_log_and_leaves_no_half(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(home, monkeypatch, broken="kubelet")

    with pytest.raises(ClusterError, match=r"building kubelet v[\d.]+ failed: see (\S+)") as failure:
        build.ensure()

    named = re.search(r"see (\S+)", str(failure.value))
    assert named is not None
    assert "undefined: nonsense" in Path(named[1]).read_text()
    left = [path.name for path in (cache_folder() / "bin").iterdir() if "kubernetes" in path.name]
    assert left == []
    assert not list((cache_folder() / "bin").glob(".building-*"))


def test_a_failed_build_is_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(home, monkeypatch, broken="kubelet")
    with pytest.raises(ClusterError):
        build.ensure()
    fake_go(home, monkeypatch)

    assert build.ensure()["kubelet"].is_file()


def test_an_old_go_is_refused_with_the_version_that_is_needed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(home, monkeypatch, version="1.19.8")

    with pytest.raises(ClusterError, match=r"Go 1\.21 or newer is needed.*go1\.19"):
        build.ensure()


def test_versions_come_from_go_mod_and_staging_modules_match() -> None:
    text = (KUBERNETES.folder / "go.mod").read_text()
    staging = set(re.findall(r"k8s\.io/\S+ => k8s\.io/\S+ (v\S+)", text))

    assert staging == {KUBERNETES.version.replace("v1.", "v0.", 1)}
    assert re.fullmatch(r"v3\.\d+\.\d+", ETCD.version)


@pytest.mark.parametrize("module", [*MODULES, PROMETHEUS], ids=lambda module: module.name)
def test_every_binary_is_a_tool_of_its_go_mod(module: GoModule) -> None:
    text = (module.folder / "go.mod").read_text()

    assert all(re.search(rf"^(tool )?\s*{re.escape(p)}$", text, re.MULTILINE) for p in module.binaries.values())


def test_build_tags_reach_the_compiler_and_the_cache_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(home, monkeypatch)
    tagged = build.ensure([PROMETHEUS])
    plain = build.paths([replace(PROMETHEUS, tags=())])

    assert "-tags remove_all_sd,enable_kubernetes_sd" in tagged["promtool"].read_text()
    assert tagged.keys() == plain.keys()
    assert tagged["promtool"] != plain["promtool"]
