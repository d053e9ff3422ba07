"""Each field of the spec changes what it should, and nothing else: the cache server restarts only where it must."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.fields import CACHE, ROWS, leaves, with_field
from tests.core.samples import MODEL, planned


def children(spec: dict[str, Any]) -> dict[str, Any]:
    return {f"{obj['kind']}/{obj['metadata']['name']}": obj for obj in planned(**{"model": MODEL} | spec)}


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    old, new = children(before), children(after)
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def test_every_field_of_the_spec_has_its_row() -> None:
    assert set(leaves()) == ROWS.keys()


@pytest.mark.parametrize("path", ROWS)
def test_a_field_changes_exactly_its_children(path: str) -> None:
    row = ROWS[path]

    assert changed(row.base, with_field(row.base, path, row.value)) == set(row.changes)


def test_a_variable_that_changes_kv_reaches_the_identity_of_engines_too() -> None:
    env = [{"name": "LMCACHE_SOMETHING", "value": "1"}]

    assert changed({}, {"cache": {"env": env}}) == {CACHE, "Deployment/chat-engine"}


def test_the_number_of_engines_is_left_to_whoever_scales_them() -> None:
    assert "replicas" not in children({})["Deployment/chat-engine"]["spec"]
    assert children({"engine": {"replicas": 0}})["Deployment/chat-engine"]["spec"]["replicas"] == 0
