"""What users ask: the load of a simulated fleet, as keys and text. A token is four bytes.

Sizes are those of multi-round-qa (vllm-project/production-stack, benchmarks/multi-round-qa): a system prompt that all
share, a history of the user's own, rounds of question and answer.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from llmcache_runtime.policy import RequestKey, request_key

TOKEN_BYTES = 4


@dataclass(frozen=True)
class Load:
    """A load: users who each hold several conversations one after another. Sizes in tokens, times in seconds.

    session: each conversation is named in a header, for policies that can't do without.
    documents: conversations are about one of so many histories, the n-th of which is asked 1/n as often as the first;
    0 gives each its own.
    """

    users: int = 48
    conversations: int = 5
    rounds: int = 6
    system: int = 1000
    history: int = 2000
    question: int = 100
    answer: int = 100
    think: float = 2.0
    seed: int = 1
    session: bool = False
    documents: int = 0


@dataclass(frozen=True)
class Turn:
    """A request: its key, its text, and its text with the answer."""

    key: RequestKey
    text: bytes
    whole: bytes


class Talks:
    """What the users of a load say, made up as it is asked for."""

    def __init__(self, load: Load, rng: random.Random) -> None:
        self._load, self._rng = load, rng
        self._system = self._words(load.system)
        self._documents = [self._words(load.history) for _ in range(load.documents)]

    def of(self, user: int) -> Iterator[Turn]:
        """Give the turns of all that a user asks, one conversation after another."""
        load = self._load
        for number in range(load.conversations):
            session = f"{user}-{number}".encode() if load.session else None
            messages = [
                {"role": "system", "content": self._system},
                {"role": "user", "content": self._history()},
            ]
            for _ in range(load.rounds):
                answer = self._words(load.answer)
                body = json.dumps({"model": "m", "stream": True, "messages": messages}).encode()
                text = "".join(m["role"] + m["content"] for m in messages)
                yield Turn(request_key(body, session), text.encode(), (text + "assistant" + answer).encode())
                messages = [
                    *messages,
                    {"role": "assistant", "content": answer},
                    {"role": "user", "content": self._words(load.question)},
                ]

    def _words(self, tokens: int) -> str:
        return "".join(f"{self._rng.randrange(1000):03d} " for _ in range(tokens))

    def _history(self) -> str:
        if not self._documents:
            return self._words(self._load.history)
        (text,) = self._rng.choices(self._documents, [1 / (n + 1) for n in range(len(self._documents))])
        return text + self._words(self._load.question)


def chain(text: bytes, tokens: int) -> list[int]:
    size, state, result = tokens * TOKEN_BYTES, 0, []
    for start in range(0, len(text) - size + 1, size):
        state = xxh3_64_intdigest(text[start : start + size], state)
        result.append(state)
    return result
