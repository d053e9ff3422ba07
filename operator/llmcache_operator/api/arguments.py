"""More arguments for `vllm serve`, less those that would undo what sharing a cache rests on."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field

from llmcache_operator.api.fields import rule, rules

_FIXED = "it can't be changed"
_CACHE = "spec.cache describes the cache"
_ROUTER = "clients come through the router"
# Options of vLLM 0.32 (vllm/engine/arg_utils.py, vllm/entrypoints/launchers/cli_args.py), and what to do instead. vLLM
# takes the last of two equal options, so a user's own would silently win.
RESERVED_ARGS = {
    "--model": "use spec.model.uri",
    "--served-model-name": "use spec.model.servedName",
    "--revision": "use spec.model.revision",
    "--code-revision": "use spec.model.revision",
    "--dtype": "use spec.engine.dtype",
    "--block-size": "use spec.engine.blockSize",
    "--max-model-len": "use spec.engine.maxModelLen",
    "--tensor-parallel-size": "use spec.engine.tensorParallelSize",
    "-tp": "use spec.engine.tensorParallelSize",
    "--kv-cache-memory-bytes": "use spec.engine.kvCacheMemory",
    "--shutdown-timeout": "use spec.engine.template.spec.terminationGracePeriodSeconds",
    "--kv-transfer-config": _CACHE,
    "--kv-offloading-size": _CACHE,
    "--kv-offloading-backend": _CACHE,
    "--enable-prefix-caching": _FIXED,
    "--no-enable-prefix-caching": _FIXED,
    "--prefix-caching-hash-algo": _FIXED,
    "--config": "write its options into spec.engine.args",
    "--headless": _FIXED,
    "--grpc": _FIXED,
    "--disable-log-stats": "the hit rate is measured on what it would turn off",
    "--host": _ROUTER,
    "--port": _ROUTER,
    "--uds": _ROUTER,
    "--root-path": _ROUTER,
    "--api-key": _ROUTER,
    "--ssl-keyfile": _ROUTER,
    "--ssl-certfile": _ROUTER,
}
# A JSON list of strings is a CEL list. Each entry begins with its option, so that one look-up serves rule and message.
_ENTRIES = json.dumps([f"{option} itself: {advice}" for option, advice in RESERVED_ARGS.items()])
# Underscores, inline values, dotted JSON options and argparse's abbreviations all name the same option.
_NAME = "self.find('^-[^=. ]*').replace('_', '-')"

Argument = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        json_schema_extra=rules(
            rule(
                # The list of one gives the name a name: worked out once per entry it would exceed CEL's budget.
                f"![{_NAME}].exists(name, size(name) > 1 && {_ENTRIES}.exists(entry, entry.startsWith(name)))",
                "must be no option that the operator sets itself",
                says=f"'the operator sets ' + {_ENTRIES}.filter(entry, entry.startsWith({_NAME}))[0]",
            )
        ),
    ),
]
Args = Annotated[list[Argument], Field(max_length=64)]
