"""What the API server makes of the CRD: which resources it takes, what it fills in, and how it says no."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.apiserver.server import ApiServer

CRD = Path(__file__).parents[2] / "crds" / "llmcacheservices.yaml"
NAMESPACE = "crd-tests"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def kubectl(api_server: ApiServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run kubectl as a user would, with an object on standard input if one is given."""

    def run(*args: str, obj: Json | None = None) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", "--kubeconfig", str(api_server.kubeconfig), "--request-timeout", "20s", *args]
        text = None if obj is None else json.dumps(obj)
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)

    applied = run("apply", "--server-side", "--filename", str(CRD))
    assert applied.returncode == 0, applied.stderr
    run("wait", "--for=condition=Established", "crd/llmcacheservices.llmcache.dev", "--timeout=20s")
    run("create", "namespace", NAMESPACE)
    return run


def resource(name: str = "chat", **spec: Any) -> Json:
    """A resource that asks for as little as possible, and what a test adds to its spec."""
    return {
        "apiVersion": "llmcache.dev/v1alpha1",
        "kind": "LLMCacheService",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"model": {"uri": "pvc://models/tiny"}} | spec,
    }


def create(kubectl: Any, obj: Json) -> Json:
    made = kubectl("create", "--dry-run=server", "--output", "json", "--filename", "-", obj=obj)
    assert made.returncode == 0, made.stderr
    return dict(json.loads(made.stdout))


def model(**fields: Any) -> Json:
    return resource(model={"uri": "pvc://models/tiny"} | fields)


def engine(**fields: Any) -> Json:
    return resource(engine=fields)


KV: Json = {"uri": "pvc://models/tiny", "kv": {"layers": 1, "heads": 1, "headDim": 1}}


def l2(**fields: Any) -> Json:
    return cache(l2=fields)


def cache(**fields: Any) -> Json:
    return resource(cache=fields)


def router(**fields: Any) -> Json:
    return resource(router=fields)


def args(*words: str) -> Json:
    return engine(args=list(words))


def template(part: str, **metadata: Any) -> Json:
    spec: Json = {part: {"template": {"metadata": metadata}}}
    return resource(**spec)


# What is wrong, the field that must be named, and words that must say what to do.
REFUSED = {
    "negative replicas": (engine(replicas=-1), "spec.engine.replicas", "greater than or equal to 0"),
    "too many engines": (engine(replicas=5000), "spec.engine.replicas", "less than or equal to 1024"),
    "no router": (router(replicas=0), "spec.router.replicas", "greater than or equal to 1"),
    "unknown policy": (router(policy="Random"), "spec.router.policy", '"PrefixAware"'),
    "unknown topology": (cache(topology="Magic"), "spec.cache.topology", '"Shared"'),
    "unknown device": (engine(device="TPU"), "spec.engine.device", '"CPU"'),
    "unknown dtype": (engine(dtype="int4"), "spec.engine.dtype", '"bfloat16"'),
    "network policy by another name": (resource(networkPolicy="Off"), "spec.networkPolicy", '"Disabled"'),
    "no model": (resource(model={}), "spec.model.uri", "Required"),
    "argument --port": (args("--port", "1"), "spec.engine.args[0]", "sets --port itself: clients come"),
    "argument --port=1": (args("--port=1"), "spec.engine.args[0]", "sets --port itself"),
    "underscores": (args("--seed=1", "--max_model_len=9"), "spec.engine.args[1]", "use spec.engine.maxModelLen"),
    "abbreviated argument": (args("--served-model", "x"), "spec.engine.args[0]", "use spec.model.servedName"),
    "dotted argument": (args("--kv-transfer-config.kv_role=kv_both"), "spec.engine.args[0]", "spec.cache describes"),
    "short argument": (args("-tp", "2"), "spec.engine.args[0]", "use spec.engine.tensorParallelSize"),
    "abbreviated short argument": (args("-t=2"), "spec.engine.args[0]", "use spec.engine.tensorParallelSize"),
    "argument with its value": (args("--dtype half"), "spec.engine.args[0]", "use spec.engine.dtype"),
    "end of options": (args("--"), "spec.engine.args[0]", "itself"),
    "argument that stops measuring": (args("--disable-log-stats"), "spec.engine.args[0]", "hit rate"),
    "empty argument": (args(""), "spec.engine.args[0]", "at least 1 char"),
    "reserved engine variable": (
        engine(env=[{"name": "VLLM_PORT", "value": "1"}]),
        "spec.engine.env[0].name",
        "the operator sets VLLM_PORT itself: remove it",
    ),
    "reserved cache variable": (
        cache(env=[{"name": "PYTHONHASHSEED", "value": "1"}]),
        "spec.cache.env[0].name",
        "the operator sets PYTHONHASHSEED itself: remove it",
    ),
    "duplicate variable": (
        engine(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        "spec.engine.env[1]",
        "Duplicate value",
    ),
    "variable with two values": (
        engine(env=[{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        "spec.engine.env[0].valueFrom",
        "give value or valueFrom, not both",
    ),
    "variable with a bad name": (engine(env=[{"name": "1A"}]), "spec.engine.env[0].name", "letters, digits and '_'"),
    "unknown scheme": (model(uri="s3://bucket/model"), "spec.model.uri", "must be hf://ORG/REPO"),
    "hf without organisation": (model(uri="hf://gpt2"), "spec.model.uri", "must be hf://ORG/REPO"),
    "claim in upper case": (model(uri="pvc://Models/tiny"), "spec.model.uri", "pvc://CLAIM/PATH"),
    "path out of the claim": (model(uri="pvc://models/../secrets"), "spec.model.uri", "starts with a dot"),
    "image in upper case": (model(uri="oci://Registry/x"), "spec.model.uri", "oci://REGISTRY/IMAGE"),
    "bad revision": (model(revision="-x"), "spec.model.revision", "start with a letter or digit"),
    "bad served name": (model(servedName="a b"), "spec.model.servedName", "start with a letter or digit"),
    "token for a claim": (
        model(tokenSecretRef={"name": "hub"}),
        "spec.model.tokenSecretRef",
        "hf:// models only: remove it",
    ),
    "no cache memory": (cache(memory="0"), "spec.cache.memory", "at least 128Mi"),
    "too little cache memory": (cache(memory="1Ki"), "spec.cache.memory", "at least 128Mi"),
    "too much cache memory": (cache(memory="65Ti"), "spec.cache.memory", "at most 64Ti"),
    "memory in no unit of Kubernetes": (cache(memory="8GB"), "spec.cache.memory", "such as 500m, 512Mi or 8Gi"),
    "memory in words": (cache(memory="plenty"), "spec.cache.memory", "such as 500m, 512Mi or 8Gi"),
    "two sizes": (
        resource(model=KV, cache={"memory": "8Gi", "capacity": {"tokens": 1}}),
        "spec.cache.capacity",
        "not both",
    ),
    "a capacity of what": (cache(capacity={"tokens": "2M"}), "spec.model", "needs model.kv"),
    "users without tokens": (cache(capacity={"users": 3}), "spec.cache.capacity", "users and tokensPerUser"),
    "tokens in words": (cache(capacity={"tokens": "many"}), "spec.cache.capacity.tokens", "such as 2000000 or 2M"),
    "an L2 of nothing": (l2(), "spec.cache.l2", "at least one of"),
    "two Valkeys": (l2(valkey={"managed": {}, "external": {"address": "a:1"}}), "spec.cache.l2.valkey", "exactly one"),
    "no Valkey": (l2(valkey={}), "spec.cache.l2.valkey", "exactly one"),
    "an address without port": (l2(valkey={"external": {"address": "valkey"}}), "address", "HOST:PORT"),
    "compressed and encrypted": (
        l2(fileSystem={"claimName": "a"}, compression="FP8", encryptionKeySecretRef={"name": "a"}),
        "spec.cache.l2.compression",
        "either compresses or encrypts",
    ),
    "a path that leaves": (l2(fileSystem={"claimName": "a", "path": ".."}), "path", "one folder's name"),
    "a template for no pod": (
        cache(topology="PerEngine", template={"spec": {"nodeSelector": {"a": "b"}}}),
        "spec.cache.template",
        "use engine.template",
    ),
    "no GPU to map": (
        resource(engine={"device": "CPU"}, cache={"topology": "NodeLocal"}),
        "spec.cache.topology",
        "NodeLocal is for GPUs",
    ),
    "cpu in words": (cache(cpu="two"), "spec.cache.cpu", "such as 500m"),
    "little KV memory": (engine(kvCacheMemory="1Mi"), "spec.engine.kvCacheMemory", "at least 64Mi"),
    "request in words": (
        engine(resources={"requests": {"cpu": "many"}}),
        "spec.engine.resources.requests",
        "cpu must be a quantity",
    ),
    "chunks of broken blocks": (cache(chunkSize=100), "spec.cache.chunkSize", "multiple of engine.blockSize"),
    "small chunk": (cache(chunkSize=16), "spec.cache.chunkSize", "greater than or equal to 32"),
    "block of no 16": (engine(blockSize=17), "spec.engine.blockSize", "multiple of 16"),
    "CPU block": (engine(device="CPU", blockSize=16), "spec.engine.blockSize", "multiple of 32 where device is CPU"),
    "context below a chunk": (engine(maxModelLen=256), "spec.engine.maxModelLen", "larger than cache.chunkSize"),
    "bad header": (router(sessionHeader="x session"), "spec.router.sessionHeader", "such as x-session-id"),
    "keys in a Secret without a name": (
        router(auth={"apiKeysSecretRef": {}}),
        "spec.router.auth.apiKeysSecretRef.name",
        "Required",
    ),
    "Secret in upper case": (router(tls={"secretRef": {"name": "TLS"}}), "spec.router.tls.secretRef.name", "a-z, 0-9"),
    "key that no Secret can hold": (
        router(auth={"apiKeysSecretRef": {"name": "x", "key": "a/b"}}),
        "spec.router.auth.apiKeysSecretRef.key",
        "must be a key of a Secret",
    ),
    "admin paths for everybody": (
        router(adminPaths=["/sleep"]),
        "spec.router.adminPaths",
        "set auth.apiKeysSecretRef",
    ),
    "admin path with a query": (
        router(adminPaths=["/sleep?level=2"]),
        "spec.router.adminPaths[0]",
        "without query",
    ),
    "admin path by another way": (
        router(adminPaths=["/v1/../sleep"]),
        "spec.router.adminPaths[0]",
        "must be a path such as",
    ),
    "router of another type": (router(type="Gateway"), "spec.router.type", '"EndpointPicker"'),
    "keys behind a gateway": (
        router(type="EndpointPicker", auth={"apiKeysSecretRef": {"name": "x"}}),
        "spec.router.auth",
        "set keys there and remove this",
    ),
    "gateway of a proxy": (router(gatewayNamespace="x"), "spec.router.gatewayNamespace", "type EndpointPicker only"),
    "debug headers in another word": (router(debugHeaders="On"), "spec.router.debugHeaders", '"Disabled"'),
    "label of the operator": (
        template("engine", labels={"app.kubernetes.io/name": "x"}),
        "spec.engine.template.metadata.labels",
        "app.kubernetes.io/name belongs to the operator",
    ),
    "annotation of the operator": (
        template("cache", annotations={"llmcache.dev/cache-identity": "x"}),
        "spec.cache.template.metadata.annotations",
        "llmcache.dev/cache-identity belongs to the operator",
    ),
    "hasty end": (
        resource(engine={"template": {"spec": {"terminationGracePeriodSeconds": 5}}}),
        "spec.engine.template.spec.terminationGracePeriodSeconds",
        "greater than or equal to 30",
    ),
    "long name": (resource("a" * 41), "metadata.name", "may not be more than 40"),
    "name that starts with a digit": (resource("1chat"), "metadata.name", "start with a letter"),
    "name with a dot": (resource("chat.v2"), "metadata.name", "hold only a-z, 0-9"),
    "name in upper case": (resource("Chat"), "metadata.name", "lower case"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_bad_resource_is_refused_with_the_field_and_what_to_do(why: str, kubectl: Any) -> None:
    obj, field, advice = REFUSED[why]

    refused = kubectl("create", "--dry-run=server", "--filename", "-", obj=obj)

    assert refused.returncode != 0, refused.stdout
    assert field in refused.stderr
    assert advice in refused.stderr


def test_every_example_is_taken(kubectl: Any) -> None:
    examples = sorted((CRD.parents[1] / "deploy" / "examples").glob("*.yaml"))

    assert examples
    for example in examples:
        taken = kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", str(example))
        assert taken.returncode == 0, taken.stderr


def test_an_argument_that_only_looks_reserved_is_taken(kubectl: Any) -> None:
    words = [
        "--max-num-seqs=8",
        "--seed",
        "-1",
        "--hf-overrides",
        '{"a": "--port"}',
        "-q",
        "fp8",
        "--port-range-of-x",
        "8",
    ]

    assert create(kubectl, args(*words))["spec"]["engine"]["args"] == words


def test_what_is_left_out_gets_its_default(kubectl: Any) -> None:
    made = create(kubectl, resource())

    assert made["spec"] == {
        "model": {"uri": "pvc://models/tiny"},
        "engine": {"device": "GPU", "dtype": "auto", "blockSize": 32, "tensorParallelSize": 1},
        "cache": {"topology": "Shared", "chunkSize": 256, "timeoutSeconds": 30, "cpu": "500m", "selfTest": "Enabled"},
        "router": {
            "replicas": 2,
            "type": "Proxy",
            "policy": "PrefixAware",
            "debugHeaders": "Disabled",
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        },
        "networkPolicy": "Enabled",
    }


def test_a_part_that_is_given_in_part_gets_the_rest(kubectl: Any) -> None:
    made = create(kubectl, resource(engine={"device": "CPU"}, cache={"memory": "8Gi"}, router={"policy": "RoundRobin"}))

    assert made["spec"]["engine"]["blockSize"] == 32
    assert made["spec"]["cache"]["chunkSize"] == 256
    assert made["spec"]["router"]["replicas"] == 2


def test_a_fresh_resource_does_not_look_reconciled(kubectl: Any) -> None:
    """The kstatus library calls an object current when observedGeneration equals its generation, or is not there."""
    assert create(kubectl, resource())["status"] == {"observedGeneration": -1}


@pytest.fixture
def stored(kubectl: Any) -> Iterator[Callable[[Json], Json]]:
    """Store a resource, which goes after the test."""
    names = []

    def store(obj: Json) -> Json:
        made = kubectl("create", "--output", "json", "--filename", "-", obj=obj)
        assert made.returncode == 0, made.stderr
        names.append(obj["metadata"]["name"])
        return dict(json.loads(made.stdout))

    yield store
    for name in names:
        kubectl("delete", "llmcs", name, "--namespace", NAMESPACE, "--timeout", "20s")


def told(kubectl: Any, name: str, status: Json) -> None:
    """Write a status as the operator does."""
    patch = ("patch", "llmcs", name, "--namespace", NAMESPACE, "--subresource", "status", "--type", "merge")
    done = kubectl(*patch, "--patch", json.dumps({"status": status}))
    assert done.returncode == 0, done.stderr


STATUS = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Available",
            "message": "2 of 2 engines ready",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
    "url": "http://columns-router.crd-tests.svc",
    "engines": {"desired": 2, "ready": 2, "summary": "2/2", "selector": "llmcache.dev/service=columns"},
    "cache": {"hitRatePercent": 71, "usedPercent": 40, "tiers": {"engine": 58, "server": 13}},
}


def test_kubectl_get_shows_the_columns(kubectl: Any, stored: Any) -> None:
    stored(resource("columns"))
    get = ("get", "llmcs", "columns", "--namespace", NAMESPACE)

    header, fresh = kubectl(*get).stdout.splitlines()
    assert header.split() == ["NAME", "READY", "ENGINES", "HIT%", "CACHE%", "MODEL", "AGE"]
    assert fresh.split()[:2] == ["columns", "pvc://models/tiny"]

    told(kubectl, "columns", STATUS)
    row = kubectl(*get).stdout.splitlines()[1]
    assert row.split()[:6] == ["columns", "True", "2/2", "71", "40", "pvc://models/tiny"]
    wide = kubectl(*get, "--output", "wide").stdout
    assert all(word in wide for word in ("LMCACHE%", "REASON", "URL", "13", "Available", STATUS["url"]))


def test_a_service_can_be_scaled_and_waited_for(kubectl: Any, stored: Any) -> None:
    stored(resource("scaled", engine={"replicas": 2}))
    told(kubectl, "scaled", STATUS)

    scaled = kubectl("scale", "llmcs", "scaled", "--namespace", NAMESPACE, "--replicas", "3")
    assert scaled.returncode == 0, scaled.stderr

    path = f"/apis/llmcache.dev/v1alpha1/namespaces/{NAMESPACE}/llmcacheservices/scaled"
    scale = json.loads(kubectl("get", "--raw", f"{path}/scale").stdout)
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 2, "selector": "llmcache.dev/service=columns"}
    assert json.loads(kubectl("get", "--raw", path).stdout)["metadata"]["generation"] == 2
    wait = ("wait", "--for=condition=Ready", "llmcs/scaled", "--namespace", NAMESPACE)
    assert kubectl(*wait, "--timeout=0").returncode != 0, "the old Ready is not of this generation"
    told(kubectl, "scaled", STATUS | {"observedGeneration": 2})
    assert kubectl(*wait, "--timeout=10s").returncode == 0


def test_a_status_write_leaves_the_generation(kubectl: Any, stored: Any) -> None:
    stored(resource("quiet"))
    told(kubectl, "quiet", STATUS)

    path = f"/apis/llmcache.dev/v1alpha1/namespaces/{NAMESPACE}/llmcacheservices/quiet"
    assert json.loads(kubectl("get", "--raw", path).stdout)["metadata"]["generation"] == 1


def test_a_misspelt_field_is_refused_by_strict_validation(kubectl: Any) -> None:
    refused = kubectl("create", "--validate=strict", "--dry-run=server", "--filename", "-", obj=resource(cahce={}))

    assert refused.returncode != 0
    assert 'unknown field "spec.cahce"' in refused.stderr


def objects_of(schema: Json, path: str) -> Iterator[str]:
    """Every object of a schema that has fields of its own, as `kubectl explain` addresses it."""
    if "properties" in schema:
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from objects_of(inner.get("items", inner), f"{path}.{name}")


SCHEMA = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


@pytest.mark.parametrize("part", ["spec", "status"])
def test_kubectl_explains_every_field(part: str, kubectl: Any) -> None:
    for path in objects_of(SCHEMA["properties"][part], f"llmcs.{part}"):
        explained = kubectl("explain", path)
        assert explained.returncode == 0, explained.stderr
        assert "<no description>" not in explained.stdout, path
        assert "DESCRIPTION:\n    <empty>" not in explained.stdout, path

    everything = kubectl("explain", f"llmcs.{part}", "--recursive").stdout
    assert all(f"{name}\t<" in everything for name in SCHEMA["properties"][part]["properties"])


def test_capacities_are_taken_as_numbers_and_as_quantities(kubectl: Any) -> None:
    for capacity in ({"tokens": 2_000_000}, {"tokens": "2M"}, {"users": 300, "tokensPerUser": "20k"}):
        made = create(kubectl, resource(model=KV, cache={"capacity": capacity}))
        assert "memory" not in made["spec"]["cache"]


def test_the_volume_of_a_living_valkey_can_not_be_changed(kubectl: Any) -> None:
    def managed(**fields: Any) -> Json:
        return cache(l2={"valkey": {"managed": fields}}) | {"metadata": {"name": "kept", "namespace": NAMESPACE}}

    assert kubectl("apply", "--filename", "-", obj=managed(memory="1Gi")).returncode == 0
    changed = kubectl("apply", "--filename", "-", obj=managed(memory="1Gi", persistence={"size": "2Gi"}))
    larger = kubectl("apply", "--filename", "-", obj=managed(memory="2Gi"))
    kubectl("delete", "llmcs", "kept", "--namespace", NAMESPACE)

    assert "it can't be changed" in changed.stderr
    assert larger.returncode == 0, larger.stderr
