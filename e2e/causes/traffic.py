"""Chat sessions of many turns, to engines real or fake."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN_CHARS = 4
"""Of English text, about."""
SENTENCE = "the parcel came late and its seal was broken so what can we do about one of them now"


@dataclass(frozen=True)
class Request:
    """One prompt, and how it is to travel: to the engine with this number past the router, or through the router.

    `session` and `turn` are for a router that is played.
    """

    prompt: str
    session: int
    turn: int
    engine: int | None


@dataclass(frozen=True)
class Usage:
    """What one answer said of its prompt, in tokens; `at` is when it came, in seconds since the epoch."""

    at: float
    prompt: int
    cached: int


class Send(Protocol):
    """How a request is sent; returns once it is answered."""

    async def __call__(self, request: Request) -> None:
        """Send it."""


@dataclass
class Traffic:
    """What clients do. Lengths in tokens, pauses in seconds; each session pauses a little longer than the one before.

    Every other session begins with a text of its own that nobody has sent before, the others with one that they always
    begin with. The defaults hold more than the engines do by themselves, so that the server has work. A change of the
    prompts' lengths ends the conversations that are under way.
    """

    sessions: int = 8
    system: int = 1800
    turn: int = 120
    turns: int = 8
    pause: float = 1.0
    past_router: bool = False
    shares: bool = True
    idle: bool = False

    async def run(self, send: Send) -> None:
        """Send until cancelled. Changes to the fields count from the next request on, `sessions` apart."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.sessions):
                group.create_task(self._session(number, send))

    async def _session(self, number: int, send: Send) -> None:
        await asyncio.sleep(0.6 * min(1.0, self.pause) + self.pause * number / self.sessions)
        for visit in itertools.count():
            for turn, prompt in enumerate(self._prompts(number, visit)):
                if not self.idle:
                    engine = number + turn if self.past_router else None
                    await send(Request(prompt, number, turn, engine))
                await asyncio.sleep(self.pause * (0.6 + number / self.sessions))

    def _prompts(self, number: int, visit: int) -> Iterator[str]:
        lengths = (self.system, self.turn)
        history = text(f"{number}.{visit if number % 2 else 'known'}", self.system)
        for turn in range(self.turns):
            if lengths != (self.system, self.turn):
                return
            history += text(f"{number}.{visit}.{turn}", self.turn)
            yield history if self.shares else text(uuid.uuid4().hex, self.system)


def text(seed: str, tokens: int) -> str:
    """Return text of about so many tokens, the same for the same seed."""
    words = random.Random(seed).choices(SENTENCE.split(), k=tokens * TOKEN_CHARS // 2)  # noqa: S311 - text, no secret
    return f"{seed} {' '.join(words)}"[: tokens * TOKEN_CHARS]
