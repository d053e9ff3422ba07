from pathlib import Path

import pytest

from e2e.cluster import cgroups, mounts
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import Cluster


def tree(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(content)
    return folder


def test_v2_controllers_are_handed_down_before_the_group_is_made(tmp_path: Path, cluster: Cluster) -> None:
    root = tree(tmp_path / "v2", cgroup_controllers="cpuset cpu io memory pids\n", cgroup_subtree_control="")

    cgroups.create(cluster, [root])

    assert (root / "cgroup.subtree_control").read_text() == "+cpu +cpuset +io +memory +pids"
    assert (root / "llmcache-c").is_dir()


def test_v2_without_a_needed_controller_is_refused_by_name(tmp_path: Path, cluster: Cluster) -> None:
    root = tree(tmp_path / "v2", cgroup_controllers="cpu io memory\n")

    with pytest.raises(ClusterError, match=r"lacks cpuset, pids"):
        cgroups.create(cluster, [root])


def test_v1_cpusets_are_filled_from_their_parent(tmp_path: Path, cluster: Cluster) -> None:
    memory = tree(tmp_path / "memory")
    cpuset = tree(tmp_path / "cpuset", cpuset_cpus="0-1\n", cpuset_mems="0\n")
    # The kernel makes these files with the folder; a plain folder needs them first.
    tree(cpuset / cluster.scope, cpuset_cpus="\n", cpuset_mems="\n")

    cgroups.create(cluster, [memory, cpuset])

    assert (memory / cluster.scope).is_dir()
    assert (cpuset / cluster.scope / "cpuset.cpus").read_text() == "0-1\n"
    assert (cpuset / cluster.scope / "cpuset.mems").read_text() == "0\n"


def test_removing_takes_the_children_first(tmp_path: Path, cluster: Cluster) -> None:
    root = tree(tmp_path / "memory")
    (root / cluster.scope / "kubepods" / "pod1").mkdir(parents=True)
    (root / "llmcache-other").mkdir()

    cgroups.remove(cluster, [root])

    assert [path.name for path in root.iterdir()] == ["llmcache-other"]


def test_paths_with_blanks_are_read_from_mountinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "36 35 98:0 / /a\\040b rw,noatime master:1 - overlay /dev/root rw,errors=continue"
    monkeypatch.setattr(Path, "read_text", lambda _: line)

    assert mounts.mounted() == [mounts.Mount(Path("/a b"), "overlay")]
