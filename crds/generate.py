"""Write crds/llmcacheservices.yaml from the models; with --check, only say whether it is current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from llmcache_operator.api.crd import crd

TARGET = Path(__file__).with_name("llmcacheservices.yaml")
HEADER = "# Generated from operator/llmcache_operator/api by `make generate`. Edit the models, not this file.\n"


class _Dumper(yaml.SafeDumper):
    """Writes every part out: people and tools read a file without anchors more easily."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def rendered() -> str:
    """Return the CRD as YAML text."""
    return HEADER + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def main() -> int:
    """Return 0 when the file is current or was written, 1 when --check found it stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is stale")
    if parser.parse_args().check:
        if TARGET.exists() and TARGET.read_text() == rendered():
            return 0
        sys.stderr.write(f"crds/{TARGET.name} is not what the models say. Run `make generate` and commit the result.\n")
        return 1
    TARGET.write_text(rendered())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
