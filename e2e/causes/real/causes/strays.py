"""Engines that are not as the others: a pod with the service's labels that somebody made by hand."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

from e2e.causes.cause import Cause
from e2e.causes.real.causes.server import REFILLS
from e2e.disguise import disguise

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.causes.real.live import Live
    from e2e.kube import Json

EFFECTIVE, SHARING = "CacheEffective", "CacheSharingVerified"
OTHER_IDENTITY = "0" * 12


def _stray(change: Callable[[Live, Json], None]) -> Callable[[Live], None]:
    def inject(live: Live) -> None:
        template = copy.deepcopy(live.template())
        change(live, template)
        live.add_stray(template)

    return inject


def _other_path(_: Live, template: Json) -> None:
    (gate,) = (c for c in template["spec"]["initContainers"] if c["name"] == "gate")
    gate["args"][gate["args"].index("--identity") + 1] = OTHER_IDENTITY


def _no_connector(_: Live, template: Json) -> None:
    args = template["spec"]["containers"][0]["args"]
    at = args.index("--kv-transfer-config")
    del args[at : at + 2]


def _other_dtype(_: Live, template: Json) -> None:
    args = template["spec"]["containers"][0]["args"]
    args[args.index("--dtype") + 1] = "float32"


def _other_weights(live: Live, template: Json) -> None:
    """Serve other weights at the very path of the others, which the gate would never do."""
    pod = live.engines()[0]["metadata"]["name"]
    path = json.loads(live.kube.raw(pod, 8000, "/v1/models"))["data"][0]["root"]
    disguise(template["spec"], OTHER_MODEL, path)


OTHER_MODEL = "other-weights"

CAUSES: tuple[Cause[Live], ...] = (
    Cause(
        "Other model path on one engine",
        "a third engine, made by hand with another identity in its path",
        EFFECTIVE,
        "IdentityMismatch",
        _stray(_other_path),
        lambda live: live.remove_stray(),
        well=REFILLS,
        after=REFILLS,
    ),
    Cause(
        "Engine that never registered",
        "a third engine, made by hand without `--kv-transfer-config`",
        EFFECTIVE,
        "EnginesNotRegistered",
        _stray(_no_connector),
        lambda live: live.remove_stray(),
        well=REFILLS,
        after=REFILLS,
    ),
    Cause(
        "Wrong KV returned",
        "a third engine, made by hand with other weights at the same path",
        SHARING,
        "WrongKV",
        _stray(_other_weights),
        lambda live: live.remove_stray(),
        well=frozenset({"Verified"}),
        after=frozenset({"Verified"}),
    ),
    Cause(
        "Other dtype on one engine",
        "a third engine, made by hand with `--dtype float32`",
        EFFECTIVE,
        "IdentityMismatch",
        _stray(_other_dtype),
        lambda live: live.remove_stray(),
        well=REFILLS,
        after=REFILLS,
    ),
)
