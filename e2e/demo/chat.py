"""A multi-turn chat of several users through the router, measured turn by turn."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openai import OpenAI

from e2e import counters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletionMessageParam

    from e2e.counters import Tokens
    from e2e.kube import Kube

ANSWER_TOKENS = 24
HANDBOOK_RULES = 26
_RULES = (
    "Refunds for {item} are possible within {n} days if the parcel is complete and its seal is unbroken.",
    "A delivery of {item} that is late by more than {n} hours is credited with a voucher on request.",
    "Questions about {item} are answered in the language of the customer, in {n} sentences or fewer.",
)
_ITEMS = ("bicycles", "lamps", "garden chairs", "teapots", "rain coats", "bookshelves", "headphones")
QUESTIONS = (
    "My parcel came late. What can I do?",
    "And can I send back one part of it?",
    "How long do I have for that?",
    "Please sum up what you told me.",
)
USERS = ("Ada", "Ben", "Cleo")


@dataclass(frozen=True)
class Turn:
    """One answer: who asked, how long the first token took, in seconds, and where the prompt's tokens came from."""

    user: str
    number: int
    engine: str
    first_token: float
    tokens: Tokens


@dataclass
class Conversation:
    """What one user and the assistant said so far."""

    user: str
    messages: list[ChatCompletionMessageParam] = field(default_factory=list)

    def ask(self, client: OpenAI, model: str, question: str) -> float:
        """Ask, keep the answer, and return the seconds that the first token took."""
        self.messages.append({"role": "user", "content": question})
        begin, first, words = time.monotonic(), None, []
        stream = client.chat.completions.create(
            model=model, messages=self.messages, max_tokens=ANSWER_TOKENS, temperature=0, stream=True
        )
        for chunk in stream:
            piece = chunk.choices[0].delta.content if chunk.choices else None
            if piece:
                first = first or time.monotonic()
                words.append(piece)
        self.messages.append({"role": "assistant", "content": "".join(words)})
        return (first or time.monotonic()) - begin


def handbook(user: str) -> str:
    """Return a system prompt of about 800 tokens that is this user's alone: their shop's rules."""
    shift = USERS.index(user) if user in USERS else len(USERS)
    rules = (
        f"Rule {n} of {user}'s shop: "
        + _RULES[(n + shift) % len(_RULES)].format(item=_ITEMS[(n * (shift + 2)) % len(_ITEMS)], n=n + 3 * shift + 2)
        for n in range(1, HANDBOOK_RULES + 1)
    )
    return f"You are the assistant of {user}'s shop. " + " ".join(rules)


def talk(kube: Kube, service: str, model: str, base_url: str) -> Iterator[Turn]:
    """Let all users ask all questions, round by round, and yield each turn as it ends.

    One request at a time: so the difference of the engines' counters is what that turn did.
    """
    client = OpenAI(base_url=f"{base_url}/v1", api_key="unused", timeout=120, max_retries=0)
    conversations = [Conversation(user, [{"role": "system", "content": handbook(user)}]) for user in USERS]
    before = counters.read_all(kube, service)
    for number, question in enumerate(QUESTIONS, start=1):
        for conversation in conversations:
            seconds = conversation.ask(client, model, question)
            after = counters.read_all(kube, service)
            moved = {pod: after[pod] - before[pod] for pod in after}
            engine = max(moved, key=lambda pod: moved[pod].total)
            yield Turn(conversation.user, number, engine, seconds, moved[engine])
            before = after


def ask_directly(base_url: str, model: str, prompt: str) -> float:
    """Send a prompt to one engine and return the seconds that the first token took."""
    client = OpenAI(base_url=f"{base_url}/v1", api_key="unused", timeout=120, max_retries=0)
    begin = time.monotonic()
    for _ in client.completions.create(model=model, prompt=prompt, max_tokens=1, temperature=0, stream=True):
        break
    return time.monotonic() - begin
