"""The local cluster itself: starting it, mending it, two of them, and that nothing is left of it."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import cgroups, images, mounts, pause, process, slots
from e2e.cluster.handle import Local
from e2e.cluster.kubectl import kubectl
from e2e.cluster.layout import Cluster, cache_folder
from e2e.cluster.shell import run

ROOT = Path(__file__).parents[1]
COMPONENTS = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True, scope="module")
def _only_local(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("cluster") != "local":
        pytest.skip("these tests are about the local cluster")


def cli(*args: str, **environment: str) -> str:
    """Run `python -m e2e.cluster ARGS` as people do."""
    done = subprocess.run(
        [sys.executable, "-m", "e2e.cluster", *args],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def up(name: str) -> Cluster:
    cli("up", "--name", name)
    return slots.get(name)


@pytest.fixture(scope="module")
def t1() -> Iterator[Cluster]:
    """Provide a cluster that the tests of this file share."""
    yield up("t1")
    cli("down", "--name", "t1")


@pytest.fixture
def namespace(t1: Cluster) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl(t1.kubeconfig, ["create", "namespace", name])
    yield name
    kubectl(t1.kubeconfig, ["delete", "namespace", name, "--wait=false"])


def pids(cluster: Cluster) -> dict[str, int]:
    running = {name: process.read(cluster.pidfile(name)) for name in COMPONENTS}
    return {name: found.identity.pid for name, found in running.items() if found is not None}


def deploy(cluster: Cluster, namespace: str, name: str, *command: str, image: str | None = None) -> None:
    """Create a Deployment of the pause image and wait until it is Ready."""
    create = ["create", "deployment", name, "-n", namespace, f"--image={image or pause.reference()}"]
    kubectl(cluster.kubeconfig, [*create, *(("--", *command) if command else ())])
    wait_ready(cluster, namespace, name)


def wait_ready(cluster: Cluster, namespace: str, name: str) -> None:
    status = ["rollout", "status", f"deployment/{name}", "-n", namespace, "--timeout=90s"]
    kubectl(cluster.kubeconfig, status, seconds=95)


def in_pod(cluster: Cluster, namespace: str, deployment: str, *command: str) -> str:
    return kubectl(cluster.kubeconfig, ["exec", "-n", namespace, f"deployment/{deployment}", "--", *command])


def test_up_again_changes_nothing(t1: Cluster) -> None:
    before = pids(t1)

    cli("up", "--name", "t1")

    assert set(before) == set(COMPONENTS)
    assert pids(t1) == before


@pytest.mark.parametrize("component", COMPONENTS)
def test_up_brings_back_a_killed_component_and_leaves_the_others(t1: Cluster, namespace: str, component: str) -> None:
    deploy(t1, namespace, "before")
    before = pids(t1)
    os.kill(before[component], signal.SIGKILL)
    killed = process.wait_until(lambda: component not in pids(t1), seconds=30)

    cli("up", "--name", "t1")

    after = pids(t1)
    assert killed
    assert {name for name in COMPONENTS if after[name] != before[name]} == {component}
    cli("status", "--name", "t1")
    wait_ready(t1, namespace, "before")
    deploy(t1, namespace, "after")


def test_a_service_is_reached_by_name_from_pods_and_by_address_from_the_host(t1: Cluster, namespace: str) -> None:
    deploy(t1, namespace, "web", "/bin/sh", "-c", "echo hello > /tmp/index.html; httpd -f -p 8080 -h /tmp")
    kubectl(t1.kubeconfig, ["expose", "deployment", "web", "-n", namespace, "--port=80", "--target-port=8080"])
    where = ["get", "service", "web", "-n", namespace, "--output=jsonpath={.spec.clusterIP}"]
    address = kubectl(t1.kubeconfig, where)

    resolved = process.wait_until(
        lambda: address in in_pod(t1, namespace, "web", "nslookup", f"web.{namespace}.svc.cluster.local"), seconds=30
    )

    assert resolved
    # A connection that begins before kube-proxy knows of the Service is not answered: a new one is.
    fetch = 'for _ in 1 2 3 4; do timeout 4 wget -qO- "$0" && exit; done; exit 1'
    assert in_pod(t1, namespace, "web", "sh", "-c", fetch, f"http://{address}/") == "hello\n"
    assert run(["curl", "-sS", "--noproxy", "*", "--max-time", "10", f"http://{address}/"]) == "hello\n"


def test_the_audit_log_holds_writes_and_no_reads(t1: Cluster, namespace: str) -> None:
    kubectl(t1.kubeconfig, ["create", "configmap", "seen", "-n", namespace])
    kubectl(t1.kubeconfig, ["get", "configmap", "seen", "-n", namespace])

    log = Local("t1").audit_log() or []

    about = [event["verb"] for event in log if event["objectRef"].get("name") == "seen"]
    assert about == ["create"]
    assert {event["verb"] for event in log} <= {"create", "update", "patch", "delete", "deletecollection"}
    assert cli("audit-log", "--name", "t1").count("\n") >= len(log)


def test_the_printed_kubeconfig_stands_alone(t1: Cluster, tmp_path: Path) -> None:
    copy = tmp_path / "kubeconfig"
    copy.write_text(cli("kubeconfig", "--name", "t1"))

    assert "system:masters" in kubectl(copy, ["auth", "whoami"])
    assert str(t1.folder) not in copy.read_text()


def test_a_released_volume_is_emptied_and_offered_again(t1: Cluster, namespace: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    kubectl(t1.kubeconfig, ["apply", "-f", "-"], stdin=json.dumps(claim))
    wait = ["wait", "pvc/data", "-n", namespace, "--for=jsonpath={.status.phase}=Bound", "--timeout=30s"]
    kubectl(t1.kubeconfig, wait, seconds=35)
    volume = kubectl(t1.kubeconfig, ["get", "pvc", "data", "-n", namespace, "-o=jsonpath={.spec.volumeName}"])
    where = kubectl(t1.kubeconfig, ["get", "pv", volume, "-o=jsonpath={.spec.hostPath.path}"])
    (Path(where) / ".hidden").mkdir()
    (Path(where) / ".hidden" / "old").write_text("old")

    kubectl(t1.kubeconfig, ["delete", "pvc", "data", "-n", namespace, "--timeout=30s"], seconds=35)
    offered = ["wait", f"pv/{volume}", "--for=jsonpath={.status.phase}=Available", "--timeout=60s"]
    kubectl(t1.kubeconfig, offered, seconds=65)

    assert list(Path(where).iterdir()) == []


def test_a_container_cannot_change_the_image_that_clusters_share(t1: Cluster, namespace: str) -> None:
    layers = cache_folder() / "images" / "containerd" / "io.containerd.snapshotter.v1.overlayfs" / "snapshots"
    before = {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in layers.glob("*/fs/bin/*")}
    container = {
        "name": "root",
        "image": pause.reference(),
        "securityContext": {"runAsUser": 0},
        "command": ["/bin/sh", "-c", "rm /bin/ls && mv /bin/busybox /bin/moved && echo changed > /bin/busybox"],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": namespace},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    kubectl(t1.kubeconfig, ["apply", "-f", "-"], stdin=json.dumps(pod))
    done = ["wait", "pod/root", "-n", namespace, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]
    kubectl(t1.kubeconfig, done, seconds=65)

    after = {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in layers.glob("*/fs/bin/*")}
    assert len(before) > 100
    assert after == before


def test_two_clusters_side_by_side_do_not_know_each_other(t1: Cluster, namespace: str) -> None:
    t2 = up("t2")
    try:
        kubectl(t2.kubeconfig, ["create", "namespace", "mine"])
        deploy(t2, "mine", "web")
        deploy(t1, namespace, "web")

        assert kubectl(t1.kubeconfig, ["get", "namespace", "mine", "--ignore-not-found"]) == ""
        assert kubectl(t2.kubeconfig, ["get", "namespace", namespace, "--ignore-not-found"]) == ""
        assert not any(mine.overlaps(theirs) for mine in t1.networks for theirs in t2.networks)
    finally:
        cli("down", "--name", "t2")
    wait_ready(t1, namespace, "web")
    cli("status", "--name", "t1")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store images apart from the user's, so that none of a test stays there; take the binaries from there."""
    folder = tmp_path / "cache" / "llmcache"
    folder.mkdir(parents=True)
    (folder / "bin").symlink_to(cache_folder() / "bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Provide an image that no cluster has: its archive and its name."""
    archive = tmp_path / "image.tar"
    with monkeypatch.context() as changed:
        changed.setattr(pause, "_COMMAND", ["/bin/sh", "-c", "sleep 1000"])
        return archive, pause.write_archive(archive)


@pytest.mark.usefixtures("own_cache")
def test_an_image_loaded_later_is_seen_by_a_cluster_that_runs_pods(
    t1: Cluster, namespace: str, image: tuple[Path, str]
) -> None:
    archive, ref = image
    deploy(t1, namespace, "running")

    cli("load", "--name", "t1", str(archive))

    assert ref in images.available()
    deploy(t1, namespace, "later", image=ref)
    wait_ready(t1, namespace, "running")


@pytest.mark.usefixtures("own_cache")
def test_an_image_loaded_before_the_first_pod_is_linked_and_not_copied(image: tuple[Path, str]) -> None:
    archive, ref = image
    t4 = up("t4")
    try:
        cli("load", "--name", "t4", str(archive))
        deploy(t4, "default", "first", image=ref)

        blobs = list((t4.folder / "containerd/root/io.containerd.content.v1.content/blobs/sha256").iterdir())
        assert blobs
        assert all(blob.is_symlink() for blob in blobs)
        cli("status", "--name", "t4")
    finally:
        cli("down", "--name", "t4")


def traces(cluster: Cluster) -> dict[str, list[str]]:
    """All that a cluster has on this machine outside the cache, by what it is."""
    groups = [str(root / cluster.scope) for root in cgroups.hierarchies() if (root / cluster.scope).exists()]
    links = json.loads(run(["ip", "-json", "link", "show"]))
    routes = json.loads(run(["ip", "-json", "-4", "route", "show"]))
    networks = {str(network) for network in cluster.networks}
    logs, results = Path("/var/log/containers"), Path("/var/lib/cni/results")
    return {
        "processes": [str(identity.pid) for identity in process.marked(cluster.folder)],
        "pods": [pid for group in groups for p in Path(group).rglob("cgroup.procs") for pid in p.read_text().split()],
        "mounts": [str(m.path) for m in mounts.mounted() if m.path.is_relative_to(cluster.folder)],
        "links": [link["ifname"] for link in links if link["ifname"] == cluster.host_link],
        "routes": [route["dst"] for route in routes if route["dst"] in networks],
        "namespaces": [str(cluster.netns)] if cluster.netns.exists() else [],
        "cgroups": groups,
        "folder": [str(cluster.folder)] if cluster.folder.exists() else [],
        "pod logs": [str(p) for p in logs.glob("*") if p.readlink().is_relative_to(cluster.folder)],
        "CNI results": [str(p) for p in results.glob(f"{cluster.scope}-*")],
    }


def test_down_leaves_nothing_behind() -> None:
    sockets = Path("/run/containerd/s")
    t3 = up("t3")
    kubectl(t3.kubeconfig, ["create", "namespace", "mine"])
    deploy(t3, "mine", "web")
    shims = t3.folder / "containerd/state/io.containerd.runtime.v2.task"
    addresses = [Path(p.read_text().removeprefix("unix://")) for p in shims.glob("*/*/address")]
    while_up = traces(t3)

    cli("down", "--name", "t3")

    assert [what for what, found in while_up.items() if not found] == []
    assert traces(t3) == {what: [] for what in while_up}
    assert addresses
    assert not set(addresses) & set(sockets.glob("*"))
    assert cli("down", "--name", "t3") == ""
