"""containerd: its configuration, its client `ctr`, and a short-lived one that only stores images."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import pause
from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import Cluster
from e2e.cluster.packages import CNI_PLUGINS
from e2e.cluster.process import wait_until
from e2e.cluster.shell import run

# Where Kubernetes keeps its images and containers.
_NAMESPACE = "k8s.io"
METRICS_PORT = 1338


@dataclass(frozen=True)
class Client:
    """Talks to one containerd."""

    socket: Path

    def argv(self, *args: str) -> list[str]:
        """Return the command line of `ctr ARGS`."""
        return ["ctr", "--address", str(self.socket), "--namespace", _NAMESPACE, *args]

    def ready(self) -> bool:
        """Whether containerd answers."""
        try:
            run(self.argv("version"), seconds=5)
        except ClusterError:
            return False
        return True

    def images(self) -> dict[str, str]:
        """Return the digest of each image's manifest, by the image's name."""
        lines = run(self.argv("images", "list")).splitlines()[1:]
        columns = [line.split() for line in lines]
        return {name: digest for name, _, digest, *_ in columns if not name.startswith("sha256:")}

    def containers(self) -> list[str]:
        """Return the ids of all containers, running or not."""
        return run(self.argv("containers", "list", "--quiet")).split()

    def import_images(self, archive: Path) -> None:
        """Store and unpack the images of a docker or OCI archive."""
        run(self.argv("images", "import", str(archive)), seconds=1800)

    def send_images(self, names: Sequence[str], to: "Client") -> None:
        """Copy images to another containerd."""
        source = self.argv("images", "export", "-", *names)
        with subprocess.Popen(source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
            received = subprocess.run(
                to.argv("images", "import", "-"),
                stdin=export.stdout,
                capture_output=True,
                text=True,
                timeout=1800,
                check=False,
            )
            said = (export.stderr.read() if export.stderr else b"").decode()
        if export.returncode or received.returncode:
            raise ClusterError(f"copying {', '.join(names)} into {to.socket} failed: {said}{received.stderr}")


def cluster_config(cluster: Cluster) -> str:
    """Configure a node's containerd: https://github.com/containerd/containerd/blob/release/1.6/docs/cri/config.md ."""
    folder = cluster.folder
    return f"""\
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{cluster.containerd_socket}"
[metrics]
  address = "{cluster.node_ip}:{METRICS_PORT}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause.reference()}"
  # Without CAP_SYS_RESOURCE runc may not lower a score: "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  # Else they are mounted in /var/run/netns, beside those of other clusters.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{cluster.config("cni")}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{folder}/containerd/runc"
"""


@contextmanager
def storing(root: Path) -> Iterator[Client]:
    """Run a containerd that only stores images in `root`, for as long as the body runs."""
    with tempfile.TemporaryDirectory(prefix="llmcache-ctr-") as scratch:
        folder = Path(scratch)
        (folder / "config.toml").write_text(_storing_config(root, folder))
        log = folder / "log"
        with (
            log.open("w") as output,
            subprocess.Popen(
                ["containerd", "--config", str(folder / "config.toml")],
                stdout=output,
                stderr=output,
                start_new_session=True,
            ) as daemon,
        ):
            client = Client(folder / "sock")
            try:
                if not wait_until(lambda: daemon.poll() is not None or client.ready(), seconds=60):
                    raise ClusterError(f"containerd on {root} does not answer:\n{log.read_text()[-2000:]}")
                if daemon.poll() is not None:
                    raise ClusterError(f"containerd on {root} ended:\n{log.read_text()[-2000:]}")
                yield client
            finally:
                daemon.terminate()
                daemon.wait(timeout=60)


def _storing_config(root: Path, scratch: Path) -> str:
    return f"""\
version = 2
root = "{root}"
state = "{scratch}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{scratch}/sock"
"""
