"""Rules: engines that don't agree with each other or with their server, and a server that lost what it held."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from llmcache_operator.core.effect.words import by_value, size
from llmcache_operator.core.identity import ANNOTATION
from llmcache_operator.core.quantity import MEBI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmcache_operator.core.effect.evidence import Engine, Evidence
    from llmcache_operator.core.values import CacheSample, Json

ARGUMENTS = {
    "--dtype": "--dtype",
    "--tensor-parallel-size": "--tensor-parallel-size",
    "-tp": "--tensor-parallel-size",
    "--kv-cache-dtype": "--kv-cache-dtype",
}

WORTH_BYTES = MEBI
"""A server that held less has nothing to lose."""

HALF = 0.5
SHOWN_SECONDS = 40.0
"""A lost cache is told for at least this long, however fast it fills again: somebody wants to see it."""


def identity_mismatch(evidence: Evidence) -> str | None:
    """Tell if engines differ in something that is part of LMCache's keys or of the meaning of KV.

    While a rollout is under way, engines of two kinds are what one has to expect.
    """
    if not evidence.settled:
        return None
    return _between_engines(evidence) or _chunk_size(evidence)


def _between_engines(evidence: Evidence) -> str | None:
    traits = {engine.name: traits_of(engine) for engine in evidence.engines}
    for trait in ("model path", "cache identity", *dict.fromkeys(ARGUMENTS.values()), "KV cache type", "block size"):
        found = {pod: has[trait] for pod, has in traits.items() if trait in has}
        if len(set(found.values())) > 1:
            return (
                f"Engines differ in {trait}: {by_value(found)}. What one stores, the others don't find. Delete the "
                "pods that are not as the spec says; if the weights changed in place, raise spec.model.revision."
            )
    return None


def traits_of(engine: Engine) -> dict[str, str]:
    """Return what must agree between engines, as far as this one tells: from its own answers, and from its pod."""
    found = {}
    if identity := engine.pod["metadata"].get("annotations", {}).get(ANNOTATION):
        found["cache identity"] = str(identity)
    if sample := engine.sample:
        told = {"model path": sample.model_path, "block size": sample.block_size, "KV cache type": sample.cache_dtype}
        found |= {trait: value for trait, value in told.items() if value}
    return found | dict.fromkeys(ARGUMENTS.values(), "default") | dict(_arguments(engine.pod))


def _arguments(pod: Json) -> Iterator[tuple[str, str]]:
    """Yield the arguments of vLLM that change what KV means; the last one of a name wins."""
    for container in pod.get("spec", {}).get("containers", []):
        words = [str(word) for word in (*container.get("command", []), *container.get("args", []))]
        for word, following in pairwise([*words, ""]):
            name, _, inline = word.partition("=")
            if name in ARGUMENTS:
                yield ARGUMENTS[name], inline or following


def _chunk_size(evidence: Evidence) -> str | None:
    wanted = evidence.target.spec.cache.chunk_size
    for pod, sample in sorted(evidence.caches.items()):
        if sample.chunk_size not in (None, wanted):
            return (
                f"{pod} runs with a chunk size of {sample.chunk_size} tokens, the engines were started for {wanted}: "
                f"they don't find what is stored. Restart it as the spec says (kubectl delete pod {pod}), "
                "then the engines."
            )
    return None


def cache_emptied(evidence: Evidence) -> str | None:
    """Tell if a server lost what it held, until it has filled again."""
    for pod, samples in sorted(evidence.measurement.caches.items()):
        for before, after in pairwise(samples):
            if _lost(before, after) and not _filled_again(before, after, samples[-1], evidence.at):
                moment = datetime.fromtimestamp((_restarted_at(before, after) or after.at), UTC)
                how = "restarted" if _restarted_at(before, after) else "was cleared"
                below = " from memory; the L2 keeps its own" if evidence.target.spec.cache.l2 else ""
                return (
                    f"{pod} {how} at {moment:%H:%M:%S} UTC and lost {size(before.used_bytes)} of KV{below}. It fills "
                    f"again with the traffic; nothing has to be done. If it comes back: kubectl describe pod {pod}."
                )
    return None


def _restarted_at(before: CacheSample, after: CacheSample) -> float | None:
    return after.started_at if after.started_at != before.started_at else None


def _lost(before: CacheSample, after: CacheSample) -> bool:
    """Whether a server lost most of its KV between two scrapes, by other means than by making room."""
    if before.used_bytes < WORTH_BYTES:
        return False
    evicted = after.evicted_chunks > before.evicted_chunks
    return bool(_restarted_at(before, after)) or (after.used_bytes < HALF * before.used_bytes and not evicted)


def _filled_again(before: CacheSample, after: CacheSample, now: CacheSample, at: float) -> bool:
    """Whether it holds half of what it held, or is half full: a smaller one can't hold as much."""
    filled = now.used_bytes >= HALF * before.used_bytes or now.usage_ratio >= HALF
    return filled and at - after.at >= SHOWN_SECONDS
