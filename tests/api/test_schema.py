"""The CRD's schema is structural and bounded, and says something about every field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmcache_operator.api.crd import crd, openapi
from llmcache_operator.api.service import LLMCacheService
from llmcache_operator.api.spec import ServiceSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every node of a schema with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key, sign in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], path + sign)


ROOT = openapi()
PARTS = ("spec", "status")
NODES = [found for part in PARTS for found in nodes(ROOT["properties"][part], part)]
SPEC = [found for found in NODES if found[0].startswith("spec")]
FIELDS = [(path, node) for path, node in NODES if not path.endswith(("[]", "{}"))]


@pytest.mark.parametrize(("path", "node"), FIELDS, ids=[path for path, _ in FIELDS])
def test_every_field_is_described_in_a_sentence(path: str, node: Schema) -> None:
    text = node.get("description", "")

    assert len(text) > 9, path
    assert text.rstrip().endswith((".", ")")), text


def test_nothing_is_left_that_kubernetes_has_no_word_for() -> None:
    strange = {"$ref", "$defs", "title", "const", "anyOf", "allOf", "oneOf", "exclusiveMinimum", "x-pattern-message"}

    assert [path for path, node in nodes(ROOT) if strange & node.keys()] == []
    assert [path for path, node in nodes(ROOT) if node.get("additionalProperties") is False] == []


def test_every_node_has_a_type() -> None:
    assert [path for path, node in nodes(ROOT) if "type" not in node and "x-kubernetes-int-or-string" not in node] == []


def test_everything_that_users_write_is_bounded() -> None:
    """The API server prices CEL rules by these bounds."""
    for path, node in SPEC:
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
            assert "x-kubernetes-list-type" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if node.get("type") == "integer":
            assert {"minimum", "maximum"} <= node.keys(), path


def test_every_rule_has_words_and_shows_no_expression() -> None:
    rules = [(path, rule) for path, node in nodes(ROOT) for rule in node.get("x-kubernetes-validations", [])]

    assert len(rules) > 10
    assert all(rule["message"] and "self." not in rule["message"] for _, rule in rules)
    assert [path for path, node in SPEC if "pattern" in node] == [], "a pattern needs a pattern_message"


def test_no_default_is_null_or_empty() -> None:
    assert [path for path, node in nodes(ROOT) if "default" in node and node["default"] in (None, {}, [])] == []


def test_defaults_of_the_schema_are_those_of_the_models() -> None:
    written = {
        path.removeprefix("spec."): node["default"] for path, node in SPEC if "default" in node and path != "spec"
    }
    model = {
        "uri": "hf://org/repo",
        "tokenSecretRef": {"name": "hub"},
        "kv": {"layers": 1, "heads": 1, "headDim": 1},
    }
    valkey = {
        "managed": {},
        "external": {"address": "a:1", "passwordSecretRef": {"name": "a"}, "tls": {"caSecretRef": {"name": "a"}}},
    }
    l2 = {
        "valkey": valkey,
        "fileSystem": {"claimName": "a"},
        "s3": {"bucket": "abc", "region": "a"},
        "encryptionKeySecretRef": {"name": "a"},
    }
    cache = {"l2": l2}
    router = {"auth": {"apiKeysSecretRef": {"name": "keys"}}}
    read = ServiceSpec.model_validate({"model": model, "router": router, "cache": cache}).model_dump(
        mode="json", by_alias=True
    )

    for path, default in written.items():
        assert default == subset(at(read, path), default), path


def at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[name]
    return value


def subset(value: Any, of: Any) -> Any:
    """What `value` says of the keys that `of` has."""
    return {key: subset(value[key], of[key]) for key in of} if isinstance(of, dict) else value


def test_conditions_are_a_map_by_type_so_that_each_can_be_applied_alone() -> None:
    conditions = ROOT["properties"]["status"]["properties"]["conditions"]

    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert set(conditions["items"]["required"]) == {"type", "status", "reason", "message", "lastTransitionTime"}


def test_the_crd_is_named_and_shaped_as_users_find_it() -> None:
    made = crd()
    (version,) = made["spec"]["versions"]

    assert made["metadata"]["name"] == "llmcacheservices.llmcache.dev"
    assert made["spec"]["names"]["shortNames"] == ["llmcs"]
    assert "all" not in made["spec"]["names"]["categories"]
    assert set(version["subresources"]) == {"status", "scale"}
    assert version["schema"]["openAPIV3Schema"]["required"] == ["spec"]


def test_models_are_frozen_and_pass_over_what_they_do_not_know() -> None:
    service = LLMCacheService.model_validate({"spec": {"model": {"uri": "pvc://m", "new": 1}}})

    with pytest.raises(ValueError, match="frozen"):
        service.spec = service.spec  # type: ignore[misc]
    assert "new" not in service.model_dump_json()
