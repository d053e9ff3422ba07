"""What the API server keeps of the children: what the operator sent, all of it, and nothing after it is gone."""

from __future__ import annotations

import copy
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from llmcache_operator.core.content import FIELD_MANAGER
from tests.core.fields import with_all
from tests.core.samples import planned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.apiserver.server import ApiServer

Json = dict[str, Any]
NAMESPACE = "team"


@pytest.fixture
def namespace(api_server: ApiServer) -> Iterator[list[str]]:
    """The namespace of the samples, and the kubectl that works on it."""
    kubectl = ["kubectl", "--kubeconfig", str(api_server.kubeconfig), "--request-timeout", "20s"]
    run(kubectl, "create", "namespace", NAMESPACE)
    yield kubectl
    run(kubectl, "delete", "namespace", NAMESPACE, "--timeout", "60s")


def run(kubectl: list[str], *args: str, text: str | None = None) -> str:
    done = subprocess.run([*kubectl, *args], input=text, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def unowned(objects: tuple[Json, ...]) -> list[Json]:
    """The children without their owner, which is not there: the garbage collector would take them at once."""
    made = copy.deepcopy(list(objects))
    for obj in made:
        del obj["metadata"]["ownerReferences"]
    return made


def apply(kubectl: list[str], objects: tuple[Json, ...]) -> list[Json]:
    """Apply children as the operator does and return what is kept of them."""
    items = {"apiVersion": "v1", "kind": "List", "items": unowned(objects)}
    command = ("apply", "--server-side", "--force-conflicts", "--field-manager", FIELD_MANAGER)
    answer = run(kubectl, *command, "--output", "json", "--filename", "-", text=json.dumps(items))
    return list(json.loads(answer)["items"])


def differences(sent: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Every value that was sent and is kept otherwise. What the API server adds is its own affair."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        for key, value in sent.items():
            yield from differences(value, kept.get(key), f"{path}.{key}")
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        for index, (one, other) in enumerate(zip(sent, kept, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif sent != kept:
        yield f"{path}: sent {sent!r}, kept {kept!r}"


def contents(objects: list[Json]) -> dict[str, Json]:
    """Labels, annotations and everything below the metadata, by name."""
    found = {}
    for obj in objects:
        meta = {key: obj["metadata"].get(key) for key in ("labels", "annotations")}
        body = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
        found[f"{obj['kind']}/{obj['metadata']['name']}"] = body | {"metadata": meta}
    return found


PLAIN: Json = {"engine": {"replicas": 2}}
EVERYTHING = with_all()


PERSISTENT: Json = {"managed": {"persistence": {"size": "8Gi", "storageClassName": "fast"}}}
EXTERNAL: Json = {"external": {"address": "valkey.infra:6379", "tls": {"caSecretRef": {"name": "ca"}}}}
PER_ENGINE: Json = {"cache": {"topology": "PerEngine", "l2": {"valkey": PERSISTENT}}}
NODE_LOCAL: Json = {
    "engine": {"template": {"spec": {"nodeSelector": {"gpu": "h100"}, "runtimeClassName": "nvidia"}}},
    "cache": {"topology": "NodeLocal", "l2": {"valkey": EXTERNAL, "s3": {"bucket": "kv-1", "region": "eu-west-1"}}},
}
SPECS = {"plain": PLAIN, "everything": EVERYTHING, "per engine": PER_ENGINE, "node local": NODE_LOCAL}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_api_server_keeps_every_value_as_it_was_sent(spec: Json, namespace: list[str]) -> None:
    """A value that it would write in another way would differ from what is stored at every look."""
    sent = planned(**spec)

    kept = apply(namespace, sent)

    assert [found for one, other in zip(unowned(sent), kept, strict=True) for found in differences(one, other)] == []


def test_applying_the_same_again_writes_nothing(namespace: list[str]) -> None:
    first, second = (apply(namespace, planned(**EVERYTHING)) for _ in range(2))

    versions = [[obj["metadata"]["resourceVersion"] for obj in kept] for kept in (first, second)]
    assert versions[0] == versions[1]


def test_every_topology_follows_on_every_other_while_the_old_one_is_still_there(namespace: list[str]) -> None:
    for topology in ("Shared", "NodeLocal", "PerEngine", "NodeLocal", "Shared", "PerEngine", "Shared"):
        sent = planned(cache={"topology": topology})

        kept = apply(namespace, sent)

        assert [
            found for one, other in zip(unowned(sent), kept, strict=True) for found in differences(one, other)
        ] == []


def test_a_field_that_is_removed_takes_its_effect_with_it(namespace: list[str]) -> None:
    plain = PLAIN | {"networkPolicy": "Disabled"}
    before = contents(apply(namespace, planned(**plain)))
    apply(namespace, planned(**EVERYTHING))

    after = contents(apply(namespace, planned(**plain)))

    assert after == before
