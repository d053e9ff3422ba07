"""Fuzzes the parsers of both sides with libFuzzer: `make fuzz [FUZZ_SECONDS=600]`.

Arguments are libFuzzer's: options, then folders of inputs, of which the first takes new ones.
"""

import sys

import atheris

with atheris.instrument_imports(include=["llmcache_runtime.router"]):
    from tests.fuzz.parsing import check

if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
