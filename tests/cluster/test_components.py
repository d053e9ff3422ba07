import json
import re
from pathlib import Path

import pytest

from e2e.cluster import configs, pause
from e2e.cluster.components import Component, stages
from e2e.cluster.layout import Cluster
from e2e.cluster.manifests import VOLUMES, manifests
from e2e.cluster.versions import MODULES

BINARIES = {name: Path("/cache") / name for module in MODULES for name in module.binaries}


def components(cluster: Cluster) -> dict[str, Component]:
    return {component.name: component for stage in stages(cluster, BINARIES) for component in stage}


@pytest.fixture
def _pause_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "reference", lambda: "localhost/llmcache/pause:tag")


def test_every_built_binary_is_started(cluster: Cluster) -> None:
    started = {component.argv[0] for component in components(cluster).values()}

    assert started == {str(path) for path in BINARIES.values()} | {"containerd"}


def test_each_component_is_asked_for_its_health_at_an_address_of_its_own(cluster: Cluster) -> None:
    urls = [component.health for component in components(cluster).values()]
    ports = [re.match(rf"https?://{cluster.node_ip}:(\d+)/", url) for url in urls]

    assert all(ports)
    assert len({match[1] for match in ports if match}) == len(urls)


@pytest.mark.usefixtures("_pause_image")
def test_two_clusters_share_no_folder_and_no_address(cluster: Cluster) -> None:
    above = cluster.folder
    a, b = Cluster("a", 0, above / "a"), Cluster("b", 1, above / "b")

    def words(cluster: Cluster) -> set[str]:
        argv = [word for component in components(cluster).values() for word in component.argv]
        configs.write(cluster)
        files = [file.read_text() for file in cluster.config("").rglob("*") if file.is_file()]
        own = re.compile(rf"{above}[\w/.-]*|10\.\d+\.\d+\.\d+(?:/\d+)?|llmcache-\w+")
        return set(own.findall("\n".join([*argv, *files])))

    assert len(words(a)) > 20
    assert words(a) & words(b) == set()


def test_writes_are_audited_and_nobody_is_admitted_without_a_role(cluster: Cluster) -> None:
    argv = components(cluster)["kube-apiserver"].argv

    assert "--authorization-mode=Node,RBAC" in argv
    assert f"--audit-log-path={cluster.audit_log}" in argv
    assert "--enable-admission-plugins=NodeRestriction" in argv


def test_only_reads_and_questions_escape_the_audit_log() -> None:
    silent = [rule for rule in configs.audit_policy()["rules"] if rule["level"] == "None"]
    verbs = {verb for rule in silent for verb in rule.get("verbs", ())}
    groups = {resource["group"] for rule in silent for resource in rule.get("resources", ())}

    assert verbs == {"get", "list", "watch"}
    assert groups == {"authentication.k8s.io", "authorization.k8s.io"}


@pytest.mark.usefixtures("_pause_image")
def test_all_json_configuration_is_written_whole(cluster: Cluster) -> None:
    configs.write(cluster)

    files = sorted(cluster.config("").rglob("*.json"))
    assert [file.name for file in files] == ["audit-policy.json", "kubelet.json", "recycler.json"]
    assert all(json.loads(file.read_text())["kind"] for file in files)


def test_names_outside_the_cluster_are_answered_in_a_zone_of_their_own(cluster: Cluster) -> None:
    # CoreDNS runs `template` before `kubernetes`: in one zone it would answer for Services too.
    inside, outside = configs.corefile(cluster).split("\n.:53")

    assert "kubernetes" in inside
    assert "template" not in inside
    assert "NXDOMAIN" in outside


def test_there_is_one_default_class_and_its_volumes_suit_many_writers(cluster: Cluster) -> None:
    objects = manifests(cluster)
    classes = [obj for obj in objects if obj["kind"] == "StorageClass"]
    volumes = [obj for obj in objects if obj["kind"] == "PersistentVolume"]

    assert [obj["metadata"]["name"] for obj in classes] == ["standard"]
    assert len({obj["spec"]["hostPath"]["path"] for obj in volumes}) == VOLUMES
    assert all("ReadWriteMany" in obj["spec"]["accessModes"] for obj in volumes)
    assert {obj["spec"]["storageClassName"] for obj in volumes} == {"standard"}
