"""The tier behind the LMCache servers: what is rendered, and what is said of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.conditions import Parts, Verdict
from llmcache_operator.core.identity import identity
from llmcache_operator.core.l2 import l2_sample, l2_verdict
from llmcache_operator.core.outcome import outcome
from llmcache_operator.core.reconcile import decide
from llmcache_operator.core.rollout import Rollout
from llmcache_operator.core.sharing import shares
from llmcache_operator.core.target import Component
from llmcache_operator.core.values import Finding, L2Sample, Observed
from llmcache_operator.core.window import Measurement
from tests.core.samples import NOW, SETTINGS, find, live, main_container, planned, resource, target

if TYPE_CHECKING:
    from llmcache_operator.core.target import Target
    from llmcache_operator.core.values import Json

MANAGED: dict[str, Any] = {"valkey": {"managed": {"memory": "1Gi"}}}
EXTERNAL: dict[str, Any] = {
    "valkey": {
        "external": {
            "address": "valkey.infra:6380",
            "username": "kv",
            "passwordSecretRef": {"name": "valkey"},
            "tls": {"caSecretRef": {"name": "ca"}},
        }
    }
}


def server_pod(l2: Json, topology: str = "Shared") -> Json:
    """The spec of the pod that holds an LMCache server."""
    where = ("StatefulSet", Component.CACHE_SERVER) if topology == "Shared" else ("Deployment", Component.ENGINE)
    made: Json = find(planned(cache={"topology": topology, "l2": l2}), *where)["spec"]["template"]["spec"]
    return made


def adapters(l2: Json) -> list[Json]:
    args: list[str] = main_container(planned(cache={"l2": l2}), Component.CACHE_SERVER)["args"]
    return [json.loads(args[at + 1]) for at, arg in enumerate(args) if arg == "--l2-adapter"]


@pytest.mark.parametrize("topology", ["Shared", "PerEngine"])
def test_the_guard_starts_before_the_server_whose_client_connects_once(topology: str) -> None:
    spec = server_pod(MANAGED, topology)
    names = [container["name"] for container in (*spec["initContainers"], *spec["containers"])]

    assert names.index("l2-guard") < names.index("cache-server")
    guard = spec["initContainers"][0]
    assert guard["restartPolicy"] == "Always"
    assert guard["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert guard["args"][:2] == ["--store", "chat-valkey:6379"]
    assert adapters(MANAGED) == [{"type": "resp", "host": "127.0.0.1", "port": 6380, "num_workers": 4}]


@pytest.mark.parametrize("l2", [MANAGED, EXTERNAL])
def test_no_password_stands_in_any_argument(l2: Json) -> None:
    guard = server_pod(l2)["initContainers"][0]
    (password,) = guard["env"]

    assert password["name"] == "LLMCACHE_L2_PASSWORD"
    assert "secretKeyRef" in password["valueFrom"]
    assert "PASSWORD" not in json.dumps(guard["args"])


def test_an_external_store_is_reached_over_tls_with_its_own_authority() -> None:
    spec = server_pod(EXTERNAL)
    guard = spec["initContainers"][0]

    assert guard["args"][2:7] == ["--username", "kv", "--tls", "--tls-ca", "/llmcache/l2-ca/ca.crt"]
    assert guard["volumeMounts"][0]["mountPath"] == "/llmcache/l2-ca"
    assert "l2-ca" in [volume["name"] for volume in spec["volumes"]]
    assert not [obj for obj in planned(cache={"l2": EXTERNAL}) if obj["metadata"]["name"] == "chat-valkey"]


def test_valkey_evicts_below_its_pods_limit() -> None:
    container = main_container_of(planned(cache={"l2": MANAGED}), "chat-valkey")

    assert container["args"][-6:-2] == ["--maxmemory", str(1 << 30), "--maxmemory-policy", "allkeys-lru"]
    assert container["resources"]["limits"]["memory"] == "1536Mi"
    persistent = {"valkey": {"managed": {"memory": "1Gi", "persistence": {"size": "4Gi"}}}}
    kept = main_container_of(planned(cache={"l2": persistent}), "chat-valkey")
    assert kept["resources"]["limits"]["memory"] == "2304Mi"
    assert kept["args"][-2:] == ["--save", "300 1"]


def main_container_of(objects: tuple[Json, ...], name: str) -> Json:
    (workload,) = [obj for obj in objects if obj["metadata"]["name"] == name and obj["kind"] == "StatefulSet"]
    return dict(workload["spec"]["template"]["spec"]["containers"][0])


def test_only_pods_that_may_hold_lmcache_servers_reach_valkey() -> None:
    for topology in ("Shared", "PerEngine"):
        made = planned(cache={"topology": topology, "l2": MANAGED})
        (rule,) = find(made, "NetworkPolicy", Component.VALKEY)["spec"]["ingress"]

        holders = (Component.ENGINE, Component.CACHE_SERVER)
        assert rule["from"] == [{"podSelector": {"matchLabels": target().selector(holder)}} for holder in holders]
        assert rule["ports"][0]["port"] == 6379


def test_the_password_is_asked_for_and_never_planned_as_a_child() -> None:
    plan = decide(Observed(resource(cache={"l2": MANAGED})), SETTINGS).plan

    (secret,) = plan.secrets
    assert secret["metadata"]["name"] == "chat-valkey"
    assert secret["stringData"] == {"password": ""}
    assert "Secret" not in {obj["kind"] for obj in plan.apply}
    assert decide(Observed(resource(cache={"l2": EXTERNAL})), SETTINGS).plan.secrets == ()


def test_servers_that_share_a_folder_never_write_the_same_file() -> None:
    files = {"fileSystem": {"claimName": "kv"}}
    (adapter,) = adapters(files)
    server = main_container(planned(cache={"l2": files}), Component.CACHE_SERVER)

    assert adapter == {"type": "fs", "base_path": "/llmcache/l2/lmcache", "relative_tmp_dir": ".writing-$(POD_NAME)"}
    assert {"name": "l2-files", "mountPath": "/llmcache/l2"} in server["volumeMounts"]
    assert "POD_NAME" in [entry["name"] for entry in server["env"]]


@pytest.mark.parametrize("topology", ["Shared", "PerEngine"])
def test_there_is_room_in_a_volume_before_the_server_starts(topology: str) -> None:
    spec = server_pod(MANAGED | {"fileSystem": {"claimName": "kv", "path": "a"}}, topology)
    names = [container["name"] for container in (*spec["initContainers"], *spec["containers"])]
    sweeper = spec["initContainers"][names.index("l2-sweeper")]

    assert names.index("l2-guard") < names.index("l2-sweeper") < names.index("cache-server")
    assert sweeper["restartPolicy"] == "Always"
    assert sweeper["command"] == ["llmcache-l2-sweeper", "--folder", "/llmcache/l2/a"]
    assert sweeper["startupProbe"]["exec"]["command"] == [*sweeper["command"], "--probe"]
    assert sweeper["volumeMounts"][0]["name"] in [volume["name"] for volume in spec["volumes"]]


def test_only_guards_have_a_port_to_read() -> None:
    files = planned(cache={"l2": {"fileSystem": {"claimName": "kv"}}})
    policy = find(files, "NetworkPolicy", Component.CACHE_SERVER)

    assert policy == find(planned(), "NetworkPolicy", Component.CACHE_SERVER)


def test_a_bucket_is_named_in_the_host_and_its_keys_come_from_a_secret() -> None:
    s3 = {"bucket": "kv-1", "region": "eu-west-1", "credentialsSecretRef": {"name": "aws"}, "extra": {"type": "x"}}
    (adapter,) = adapters({"s3": s3})
    server = main_container(planned(cache={"l2": {"s3": s3}}), Component.CACHE_SERVER)

    assert adapter["type"] == "s3", "what the operator sets wins"
    assert adapter["s3_endpoint"] == "s3://kv-1.s3.eu-west-1.amazonaws.com"
    refs = {entry["name"]: entry.get("valueFrom") for entry in server["env"]}
    assert refs["AWS_SECRET_ACCESS_KEY"] == {"secretKeyRef": {"name": "aws", "key": "AWS_SECRET_ACCESS_KEY"}}


def test_what_is_done_to_kv_on_its_way_starts_a_cache_of_its_own() -> None:
    def of(**how: Any) -> str:
        return identity(target(cache={"l2": MANAGED | how}))

    raw = {"claimName": "kv", "extra": {"serde": {"type": "fp8"}}}
    found = {of(), of(compression="FP8"), of(encryptionKeySecretRef={"name": "a"}), of(fileSystem=raw)}

    assert len(found) == 4
    assert of() == identity(target()), "an L2 alone changes no KV"
    assert of(encryptionKeySecretRef={"name": "a"}) == of(encryptionKeySecretRef={"name": "b"})


def test_engines_share_through_an_l2() -> None:
    assert not shares(target(cache={"topology": "PerEngine"}).spec.cache)
    assert shares(target(cache={"topology": "PerEngine", "l2": MANAGED}).spec.cache)


def verdict(service: Target, seen: Measurement, now: float = NOW, store: Rollout | None = None) -> Verdict | None:
    return l2_verdict(
        service, Parts({}, FINDINGS if store else (), 0, ()), store or Rollout(1, 1, settled=True), seen, now
    )


FINDINGS = (Finding("valkey", Reason.IMAGE_PULL_FAILED, "no such image"),)


def test_a_valkey_that_does_not_come_up_is_the_news_and_its_cause_is_told() -> None:
    seen = Measurement().with_l2(L2Sample(NOW, "Unreachable", "no such name"), "a")
    found = verdict(target(cache={"l2": MANAGED}), seen, store=Rollout(1, 0, settled=False))

    assert found is not None
    assert (found.status, found.reason, found.message) == (False, Reason.IMAGE_PULL_FAILED, "no such image")
    calm = l2_verdict(
        target(cache={"l2": MANAGED}), Parts({}, (), 0, ()), Rollout(1, 0, settled=False), Measurement(), NOW
    )
    assert calm is not None
    assert calm.reason is Reason.PROGRESSING


def test_a_valkey_that_lets_nobody_in_is_told_as_that_though_its_own_probes_fail_for_it_too() -> None:
    seen = Measurement().with_l2(L2Sample(NOW, "AuthenticationFailed", "WRONGPASS"), "a")

    found = verdict(target(cache={"l2": MANAGED}), seen, store=Rollout(1, 0, settled=False))

    assert found is not None
    assert found.reason is Reason.L2_AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    ("state", "reason"),
    {
        "Unreachable": Reason.L2_UNREACHABLE,
        "AuthenticationFailed": Reason.L2_AUTHENTICATION_FAILED,
        "Full": Reason.L2_FULL,
        "Slow": Reason.L2_SLOW,
        "Refusing": Reason.L2_REFUSING,
    }.items(),
)
def test_what_a_guard_finds_is_told_with_the_stores_own_words(state: str, reason: Reason) -> None:
    seen = Measurement().with_l2(L2Sample(NOW, "Ok", "fine"), "a").with_l2(L2Sample(NOW, state, "its words"), "b")
    found = verdict(target(cache={"l2": MANAGED}), seen)

    assert found is not None
    assert (found.status, found.reason) == (False, reason)
    assert found.message.startswith("1 of 2 LMCache servers can't use Valkey. b: its words.")


def test_an_l2_that_all_servers_use_is_ready_and_one_that_nobody_has_seen_is_unknown() -> None:
    service = target(cache={"l2": MANAGED})
    well = Measurement().with_l2(L2Sample(NOW, "Ok", "fine"), "a")

    assert [getattr(verdict(service, seen), "status", 0) for seen in (well, Measurement())] == [True, None]
    assert getattr(verdict(service, well, NOW + 600), "status", 0) is None
    assert verdict(target(), well) is None


def test_a_guard_is_read_or_refused() -> None:
    text = json.dumps({"state": "Ok", "detail": "fine", "latency": 0.1})

    assert l2_sample(NOW, text) == L2Sample(NOW, "Ok", "fine")
    for nonsense in ("", "[]", "{}", "7"):
        with pytest.raises(ValueError, match="/state"):
            l2_sample(NOW, nonsense)


def engine_running(**spec: Any) -> Json:
    """An engine's pod of a service as it was."""
    made = find(planned(**spec), "Deployment", Component.ENGINE)["spec"]["template"]
    return {"metadata": made["metadata"] | {"name": "e0", "uid": "u0"}, "spec": made["spec"], "status": {}}


def test_an_old_server_stays_until_no_engine_uses_it() -> None:
    before = tuple(live(obj) for obj in planned())
    after = resource(cache={"topology": "PerEngine"})
    rolling = Observed(after, before, (engine_running(),))
    done = Observed(after, before, (engine_running(cache={"topology": "PerEngine"}),))

    assert "chat-cache" not in {obj["metadata"]["name"] for obj in decide(rolling, SETTINGS).plan.prune}
    gone = {(obj["kind"], obj["metadata"]["name"]) for obj in decide(done, SETTINGS).plan.prune}
    assert {("StatefulSet", "chat-cache"), ("Service", "chat-cache"), ("NetworkPolicy", "chat-cache")} <= gone


def test_a_valkey_stays_until_no_guard_uses_it() -> None:
    cache = {"topology": "PerEngine", "l2": MANAGED}
    before = tuple(live(obj) for obj in planned(cache=cache))
    after = resource(cache={"topology": "PerEngine"})

    assert not decide(Observed(after, before, (engine_running(cache=cache),)), SETTINGS).plan.prune
    assert decide(Observed(after, before), SETTINGS).plan.prune


def test_an_event_says_what_becomes_of_a_cache_that_is_laid_out_anew() -> None:
    service = resource(cache={"topology": "PerEngine", "l2": MANAGED}, status={"cache": {"layout": "Shared"}})
    found = outcome(decide(Observed(service), SETTINGS), Observed(service), (), Measurement(), NOW)

    (told,) = [transition for transition in found.transitions if transition.reason == "CacheLayoutChanged"]
    assert "from Shared to PerEngine, L2: valkey" in told.message
