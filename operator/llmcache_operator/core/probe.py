"""What the self-test asks of engines, and what their answers mean.

One engine (the writer) computes a fresh prompt and stores its KV; another (the reader) is asked the same. The reader
must take the prompt's chunk from the cache, and its answer must be the one that it computes itself without.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.core.exposition import maybe, series
from llmcache_operator.core.parse import WRITTEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmcache_operator.core.values import EngineSample, Json

VOCABULARY = range(1_000, 20_000)
"""Token ids of prompts. Special tokens mostly lie below (Mistral: the first 1,000) or at the end of a vocabulary."""

TOP = 5
"""Log probabilities asked for: as many as OpenAI's API gives. vLLM's own limit, `--max-logprobs`, is 20."""

TOLERANCE = 1.0
"""Nats by which a token's log probability may differ between two computations of one prompt.

Measured in bfloat16 on CPUs: 0.0 with vLLM; up to 0.25 with transformers, which computes in another order when a part
is cached. A logit of 32 to 64 has a resolution of 0.25 in bfloat16. docs/adr/0010-self-test.md has what wrong KV does.
"""

CONTROL_SALT = "llmcache-self-test"
"""`cache_salt` under which nobody stores anything: with it an engine computes a prompt although it is cached."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine says of the first token after a prompt: its likeliest candidates with log probabilities.

    `cached_tokens` is None where the engine does not tell (vLLM: `--enable-prompt-tokens-details`).
    """

    top: Mapping[str, float]
    prompt_tokens: int
    cached_tokens: int | None = None


def prompt(fresh: Sequence[int], tail: int) -> list[int]:
    """Return a prompt whose answer depends on KV: fresh tokens, of which `tail` are then repeated from the middle.

    What comes next is what came next the first time. Language models know that from attending to the first time (Olsson
    et al. 2022, "In-context Learning and Induction Heads"), and a reader has that part from the cache only.
    """
    start = len(fresh) // 3
    return [*fresh, *(fresh[(start + index) % len(fresh)] for index in range(tail))]


def question(model: str, tokens: Sequence[int], salt: str | None = None) -> Json:
    """Return the body of POST /v1/completions (vLLM 0.32, vllm/entrypoints/openai/completion/protocol.py).

    Tokens by their ids, in the answer too: several may decode to the same text.
    """
    body: Json = {
        "model": model,
        "prompt": list(tokens),
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": TOP,
        "return_tokens_as_token_ids": True,
    }
    return body | ({"cache_salt": salt} if salt else {})


def answer(text: str) -> Answer:
    """Read an answer of /v1/completions. Raises ValueError."""
    try:
        body = json.loads(text)
        usage = body["usage"]
        top = {str(token): float(value) for token, value in body["choices"][0]["logprobs"]["top_logprobs"][0].items()}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        found = Answer(top, int(usage["prompt_tokens"]), None if cached is None else int(cached))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the answer of /v1/completions can't be read: {error!r}") from error
    if not top:
        raise ValueError("the answer of /v1/completions holds no log probabilities")
    return found


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers can be of one prompt, computed twice.

    Each one's first choice is among the other's candidates, as in vLLM's own tests of equal outputs
    (tests/models/utils.py, check_logprobs_close), and no candidate of both differs by more than `TOLERANCE`.
    """
    if not all(math.isfinite(value) for value in (*one.top.values(), *other.top.values())):
        return False
    mutual = _first(one) in other.top and _first(other) in one.top
    return mutual and all(abs(value - other.top.get(token, value)) <= TOLERANCE for token, value in one.top.items())


def _first(found: Answer) -> str:
    return max(found.top, key=lambda token: found.top[token])


def taken(before: EngineSample, after: EngineSample, found: Answer, chunk: int) -> bool | None:
    """Whether an engine took a prompt's chunk from the cache, by its counters; None if other requests blur it.

    `cached_tokens` is about this very request. Without it, only an engine that computed less than the whole prompt
    meanwhile is sure to have taken this one's chunk, and not another's.
    """
    if after.server_hits - before.server_hits < chunk:
        return False
    if found.cached_tokens is not None:
        return found.cached_tokens >= chunk
    return True if after.computed - before.computed < found.prompt_tokens else None


def counted(before: EngineSample, after: EngineSample, tokens: int) -> bool:
    """Whether an engine's counters moved by a prompt of so many tokens at least."""
    moved = (
        (after.computed - before.computed)
        + (after.engine_hits - before.engine_hits)
        + (after.server_hits - before.server_hits)
    )
    return moved >= tokens


def stored(metrics: str) -> int:
    """Return how many chunks an LMCache server has stored that were computed without a salt.

    Raises ValueError when its metrics can't be read.
    """
    return maybe(series(metrics, (WRITTEN,)), WRITTEN, cache_salt="") or 0
