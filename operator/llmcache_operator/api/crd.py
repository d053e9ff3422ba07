"""The CustomResourceDefinition, made from the models.

pydantic writes JSON Schema 2020-12; Kubernetes wants a structural OpenAPI 3.0 schema: no $ref, no null types, no
titles, every map, list and string bounded so that the API server can price the CEL rules.
"""

from __future__ import annotations

import json
from typing import Any

from llmcache_operator.api.fields import PATTERN_MESSAGE, rule
from llmcache_operator.api.service import GROUP, KIND, NAME, PLURAL, SHORT_NAME, VERSION, LLMCacheService

Schema = dict[str, Any]
_DROPPED = ("title", "$defs", "additionalProperties", "const")


def crd() -> Schema:
    """Return the whole CustomResourceDefinition object."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": [SHORT_NAME],
                "categories": ["llmcache"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.engine.replicas",
                            "statusReplicasPath": ".status.engines.ready",
                            "labelSelectorPath": ".status.engines.selector",
                        },
                    },
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": openapi()},
                }
            ],
        },
    }


def openapi() -> Schema:
    """Return the structural schema of the resource."""
    root = LLMCacheService.model_json_schema(by_alias=True)
    schema = _structural(root, root.get("$defs", {}))
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": "Version of this kind."},
        "kind": {"type": "string", "description": "Name of this kind."},
        "metadata": {"type": "object", "properties": {"name": NAME}},
    } | schema["properties"]
    # kstatus calls an object InProgress only if observedGeneration is there: a fresh one must not look current.
    schema["properties"]["status"]["default"] = {"observedGeneration": -1}
    return schema


def _columns() -> list[Schema]:
    ready, effect = (f'.status.conditions[?(@.type=="{kind}")]' for kind in ("Ready", "CacheEffective"))
    rows = (
        ("Ready", "string", f"{ready}.status", 0, "Whether requests can be served as specified"),
        ("Engines", "string", ".status.engines.summary", 0, "Engines ready/desired"),
        ("Hit%", "integer", ".status.cache.hitRatePercent", 0, "Prompt tokens not computed, in the window"),
        ("Cache%", "integer", ".status.cache.usedPercent", 0, "Cache memory in use"),
        ("Model", "string", ".spec.model.uri", 0, "Where the weights are"),
        ("LMCache%", "integer", ".status.cache.tiers.server", 1, "Prompt tokens from the LMCache server"),
        ("Cache", "string", f"{effect}.reason", 1, "Whether the cache saves work, or why not"),
        ("Reason", "string", f"{ready}.reason", 1, "Why Ready is what it is"),
        ("URL", "string", ".status.url", 1, "Where clients send requests"),
        ("Age", "date", ".metadata.creationTimestamp", 0, "Time since it was created"),
    )
    return [
        {"name": name, "type": kind, "jsonPath": path, "priority": priority, "description": text}
        for name, kind, path, priority, text in rows
    ]


def _structural(node: Schema, defs: Schema) -> Schema:
    """Rewrite one schema node, references and optional types resolved."""
    node = _resolved(_without_null(_resolved(node, defs)), defs)
    if node.get("x-kubernetes-int-or-string"):
        return {key: node[key] for key in ("x-kubernetes-int-or-string", "maxLength")} | _texts(node)
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return {key: node[key] for key in ("type", "x-kubernetes-preserve-unknown-fields")} | _texts(node)
    out = {key: value for key, value in node.items() if key not in _DROPPED}
    if "properties" in node:
        out["properties"] = {key: _structural(value, defs) for key, value in node["properties"].items()}
    elif isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(node["additionalProperties"], defs)
    if "items" in node:
        out["items"] = _structural(node["items"], defs)
        out.setdefault("x-kubernetes-list-type", "atomic")
    return _with_lean_default(_worded(out))


def _worded(node: Schema) -> Schema:
    """Make a CEL rule of a pattern that has words for people: `should match '^[a-z]…'` helps nobody."""
    message = node.pop(PATTERN_MESSAGE, None)
    if message is None:
        return node
    matching = rule(f"self.matches({json.dumps(node.pop('pattern'))})", message)
    return node | {"x-kubernetes-validations": [matching, *node.get("x-kubernetes-validations", [])]}


def _with_lean_default(node: Schema) -> Schema:
    """Keep a default only where it says something; an object's holds those of its fields.

    The API server checks CEL rules against a default as it is written, before it fills in what fields default to.
    """
    own = node.pop("default", None)
    inner = {key: value["default"] for key, value in node.get("properties", {}).items() if "default" in value}
    if isinstance(own, dict):
        own = {key: value for key, value in inner.items() if key in own} | _lean(own, node.get("properties", {}))
    return node if own in (None, [], {}) else node | {"default": own}


def _lean(default: Schema, properties: Schema) -> Schema:
    """Return what a default says itself, less what is empty and less objects that their own fields describe."""
    plain = {key: value for key, value in default.items() if "properties" not in properties.get(key, {})}
    return {key: value for key, value in plain.items() if value not in (None, [], {})}


def _resolved(node: Schema, defs: Schema) -> Schema:
    """Replace a $ref by what it names; what stands beside it (description, default) wins."""
    if "$ref" not in node:
        return node
    target = defs[node["$ref"].rsplit("/", 1)[-1]]
    return _resolved(target, defs) | {key: value for key, value in node.items() if key != "$ref"}


def _without_null(node: Schema) -> Schema:
    """Turn `anyOf: [X, null]` into X: an optional property is one that may be left out."""
    options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
    if len(options) != 1:
        return node
    outer = {key: value for key, value in node.items() if key != "anyOf"}
    only: Schema = options[0]
    return only | outer


def _texts(node: Schema) -> Schema:
    return {key: node[key] for key in ("description", "default") if node.get(key) not in (None, {}, [])}
