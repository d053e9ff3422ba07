"""People who chat at the same time, each through the router, until it is enough."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

from openai import OpenAI, OpenAIError

from e2e.demo.chat import QUESTIONS, USERS, Conversation, handbook


@dataclass(frozen=True)
class Load:
    """How many questions were answered, and how many not."""

    answered: int
    failed: int


def chat(base_url: str, model: str, seconds: float) -> Load:
    """Let everybody chat until the time is over."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(len(USERS)) as people:
        loads = list(people.map(lambda user: _chat(base_url, model, user, end), USERS))
    return Load(sum(load.answered for load in loads), sum(load.failed for load in loads))


def _chat(base_url: str, model: str, user: str, end: float) -> Load:
    """Hold one conversation after another; every second one is of a customer who is new, the cache has nothing of."""
    client = OpenAI(base_url=f"{base_url}/v1", api_key="unused", timeout=120, max_retries=0)
    answered = failed = 0
    for number in count():
        who = user if number % 2 == 0 else f"{user} the {number}th"
        conversation = Conversation(who, [{"role": "system", "content": handbook(who)}])
        for question in QUESTIONS:
            if time.monotonic() > end:
                return Load(answered, failed)
            try:
                conversation.ask(client, model, question)
                answered += 1
            except OpenAIError:
                failed += 1
    raise AssertionError("count() never ends")
