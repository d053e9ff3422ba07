"""Which versions are built. The go.mod files are the one place that pins them."""

import re
from dataclasses import dataclass
from pathlib import Path

GO_MODULES = Path(__file__).parent / "go"


@dataclass(frozen=True)
class GoModule:
    """One folder under go/: a go.mod whose `tool` lines name upstream's own main packages."""

    name: str
    upstream: str
    """Module path whose version names the build."""
    binaries: dict[str, str]
    """File name of each binary and the package it is built from."""
    tags: tuple[str, ...] = ()
    """Build constraints that hold."""

    @property
    def folder(self) -> Path:
        """Where its go.mod and go.sum lie."""
        return GO_MODULES / self.name

    @property
    def version(self) -> str:
        """The version that go.mod requires, such as `v1.37.2`."""
        required = re.search(rf"^\s*{re.escape(self.upstream)} (v\S+)", self._go_mod(), re.MULTILINE)
        if required is None:
            raise ValueError(f"{self.folder / 'go.mod'} does not require {self.upstream}")
        return required[1]

    def _go_mod(self) -> str:
        return (self.folder / "go.mod").read_text()


KUBERNETES = GoModule(
    "kubernetes",
    "k8s.io/kubernetes",
    {
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    },
)
ETCD = GoModule("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"})
COREDNS = GoModule("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"})
# Without service discoveries other than Kubernetes', and without the web pages, which npm builds.
PROMETHEUS = GoModule(
    "prometheus",
    "github.com/prometheus/prometheus",
    {name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")},
    tags=("remove_all_sd", "enable_kubernetes_sd"),
)
# S3 in front of a folder, for tests: Apache-2.0, and the one such server among Go modules that is kept and small.
VERSITYGW = GoModule(
    "versitygw", "github.com/versity/versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}
)
# What a cluster runs. Other tools get a folder under go/ and a GoModule of their own, and `build.ensure([IT])`.
MODULES = (ETCD, COREDNS, KUBERNETES)
