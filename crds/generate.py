"""Write the CRD and its reference from the models; with --check, only say whether they are current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llmcache_operator.api.crd import crd, openapi
from llmcache_operator.api.service import API_VERSION, KIND

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[1]
ORIGIN = "Generated from operator/llmcache_operator/api by `make generate`. Edit the models, not this file."

Schema = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """Writes every part out: people and tools read a file without anchors more easily."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def definition() -> str:
    """Return the CRD as YAML text."""
    return f"# {ORIGIN}\n" + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def reference() -> str:
    """Return the reference of all fields as Markdown, one table an object."""
    properties = openapi()["properties"]
    known: dict[str, str] = {}
    tables = [table for part in ("spec", "status") for table in _tables(part, properties[part], known)]
    intro = (
        f"# {KIND} ({API_VERSION})\n\n<!-- {ORIGIN} -->\n\nThe same texts: `kubectl explain llmcs.spec --recursive`."
    )
    return "\n\n".join([intro, *tables]) + "\n"


def _tables(path: str, node: Schema, known: dict[str, str]) -> Iterator[str]:
    """Yield the table of an object and those of the objects in it; a shape that has its table is not told again."""
    shape = repr(node["properties"])
    if shape in known:
        yield f"## {path}\n\n{node['description']} Fields: see [{known[shape]}](#{_anchor(known[shape])})."
        return
    known[shape] = path
    required = node.get("required", [])
    rows = [_row(name, field, required=name in required) for name, field in node["properties"].items()]
    head = "| field | type | default | what it is |\n|---|---|---|---|\n"
    yield f"## {path}\n\n{node['description']}\n\n{head}" + "\n".join(rows) + _rules(node)
    for name, field in node["properties"].items():
        inner = field.get("items", field)
        if "properties" in inner:
            suffix = "[]" if "items" in field else ""
            yield from _tables(f"{path}.{name}{suffix}", {"description": field["description"]} | inner, known)


def _row(name: str, field: Schema, *, required: bool) -> str:
    default = field.get("default")
    shown = "**required**" if required else "" if default is None or isinstance(default, dict) else f"`{default}`"
    text = " ".join([field["description"], *_limits(field)]).replace("|", "\\|")
    return f"| `{name}` | {_type(field)} | {shown} | {text} |"


def _type(field: Schema) -> str:
    if "items" in field:
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    return "quantity" if field.get("x-kubernetes-int-or-string") else str(field["type"])


def _limits(field: Schema) -> Iterator[str]:
    """Yield what a value must be, in sentences."""
    if "enum" in field:
        yield "One of " + ", ".join(f"`{value}`" for value in field["enum"]) + "."
    if "minimum" in field and "maximum" in field:
        yield f"{field['minimum']} to {field['maximum']}."
    rules = [*field.get("x-kubernetes-validations", []), *field.get("items", {}).get("x-kubernetes-validations", [])]
    if "properties" not in field:
        yield from (f"Rule: {rule['message']}." for rule in rules if "fieldPath" not in rule)


def _rules(node: Schema) -> str:
    rules = [rule for rule in node.get("x-kubernetes-validations", []) if "fieldPath" in rule]
    lines = [f"* `{rule['fieldPath'].lstrip('.')}`: {rule['message']}." for rule in rules]
    return "\n\nRules:\n\n" + "\n".join(lines) if lines else ""


def _anchor(heading: str) -> str:
    return "".join(letter for letter in heading.lower() if letter.isalnum())


OUTPUTS = {
    REPOSITORY / "crds" / "llmcacheservices.yaml": definition,
    REPOSITORY / "operator" / "docs" / "api.md": reference,
}


def main() -> int:
    """Return 0 when the files are current or were written, 1 when --check found a stale one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    if not parser.parse_args().check:
        for path, render in OUTPUTS.items():
            path.write_text(render())
        return 0
    stale = [path for path, render in OUTPUTS.items() if not path.exists() or path.read_text() != render()]
    for path in stale:
        name = path.relative_to(REPOSITORY)
        sys.stderr.write(f"{name} is not what the models say. Run `make generate` and commit the result.\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
