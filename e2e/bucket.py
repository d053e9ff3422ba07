"""A bucket in a local cluster: versitygw, which speaks S3 in front of a folder of a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster import build
from e2e.cluster.versions import VERSITYGW
from e2e.kube import Kube, wait_until

if TYPE_CHECKING:
    from e2e.kube import Json

NAME = "kv-cache"
SECRET = "bucket"  # noqa: S105 - its name
_KEY, _KEY_SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
_REGION, _PORT, _PROGRAM, _DATA = "eu-west-1", 7070, "/versitygw", "/data"
_POD = f"{NAME}-0"


@dataclass(frozen=True)
class Bucket:
    """One bucket, which is also the name of its Service: LMCache puts it before the name of the host."""

    kube: Kube

    @property
    def spec(self) -> Json:
        """What to write under `spec.cache.l2.s3`."""
        return {
            "bucket": NAME,
            "region": _REGION,
            "endpoint": f"{self._domain}:{_PORT}",
            "tls": "Disabled",
            "credentialsSecretRef": {"name": SECRET},
        }

    @property
    def _domain(self) -> str:
        return f"{self.kube.namespace}.svc.cluster.local"

    def make(self, image: str, user: Kube) -> None:
        """Bring it up in its namespace, and give its credentials to the namespace of whoever uses it.

        `image` is any that has a shell: the program comes from this machine.
        """
        self.kube.apply(self._service(), self._server(image, str(build.ensure([VERSITYGW])["versitygw"].parent)))
        credentials = {_KEY: "key", _KEY_SECRET: "secret"}
        for kube in (self.kube, user):
            kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": credentials})
        self._await_ready()

    def objects(self) -> int:
        """Return how many objects it holds."""
        return int(self.kube.run("exec", _POD, "--", "sh", "-c", f"find {_DATA}/{NAME} -type f | wc -l"))

    def stop(self) -> None:
        """Take it down; its content stays."""
        self.kube.run("scale", "statefulset", NAME, "--replicas=0")
        wait_until("the bucket is gone", lambda: self.kube.get("pod", _POD) is None, seconds=60)

    def start(self) -> None:
        """Bring it back."""
        self.kube.run("scale", "statefulset", NAME, "--replicas=1")
        self._await_ready()

    def _await_ready(self) -> None:
        wait_until("the bucket answers", lambda: self.kube.is_ready(_POD), seconds=120)

    def _service(self) -> Json:
        spec = {"selector": {"app": NAME}, "ports": [{"port": _PORT}]}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": spec}

    def _server(self, image: str, programs: str) -> Json:
        serve = f"exec {_PROGRAM}/versitygw --port :{_PORT} --virtual-domain {self._domain} --region {_REGION}"
        refs = {"ROOT_ACCESS_KEY_ID": _KEY, "ROOT_SECRET_ACCESS_KEY": _KEY_SECRET}
        container = {
            "name": "versitygw",
            "image": image,
            "command": ["sh", "-c", f"mkdir -p {_DATA}/{NAME} && {serve} --health /healthz posix {_DATA}"],
            "env": [
                {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}}
                for name, key in refs.items()
            ],
            "securityContext": {"runAsUser": 0},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": _PORT}, "periodSeconds": 1},
            "volumeMounts": [{"name": "data", "mountPath": _DATA}, {"name": "program", "mountPath": _PROGRAM}],
        }
        pod = {
            "containers": [container],
            "volumes": [{"name": "program", "hostPath": {"path": programs}}],
            "terminationGracePeriodSeconds": 1,
        }
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "4Gi"}}}
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": NAME},
            "spec": {
                "serviceName": NAME,
                "selector": {"matchLabels": {"app": NAME}},
                "template": {"metadata": {"labels": {"app": NAME}}, "spec": pod},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
            },
        }
