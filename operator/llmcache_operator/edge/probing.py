"""One self-test: prompts to pairs of engines, past the router, and their counters before and after."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core import probe
from llmcache_operator.core.conclusion import PairFinding, is_enough, ring
from llmcache_operator.core.parse import engine_sample
from llmcache_operator.core.window import OwnRequest, Tokens
from llmcache_operator.edge.fetching import FetchError, fetch, post
from llmcache_operator.edge.scraping import CACHE_SERVER, ENGINE, address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    from llmcache_operator.core.probe import Answer
    from llmcache_operator.core.values import EngineSample, Json, SelfTest

STORE_PATIENCE = (1.0, 3.0, 6.0)
"""Seconds that each try gives the cache: an engine answers first and stores its KV then. Only the first try takes any
chunk that is stored meanwhile for its own and goes on at once: with other requests it may not be."""

ANSWER_SECONDS = 30.0
COUNT_SECONDS = 3.0
"""Time in which an engine counts what it has answered."""

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Asked:
    before: EngineSample
    after: EngineSample
    answer: Answer


@dataclass(slots=True)
class Prober:
    """Carries out one self-test. `note` is told of every request, when it begins and when it is over."""

    http: httpx.AsyncClient
    test: SelfTest
    note: Callable[[OwnRequest], None]
    clock: Callable[[], float]

    async def findings(self) -> list[PairFinding]:
        """Try the pairs of the ring, one after the other, until what was found is enough."""
        found: list[PairFinding] = []
        for writer, reader in ring(self.test.engines):
            found.append(await self._pair(writer, reader))
            if is_enough(found):
                break
        return found

    async def _pair(self, writer: Json, reader: Json) -> PairFinding:
        names = _name(writer), _name(reader)
        try:
            return await self._try(writer, reader, names)
        except (FetchError, ValueError, ArithmeticError) as error:
            # Whoever may run a pod decides what it answers: nothing of that may end the operator.
            return PairFinding(*names, Reason.PROBE_FAILED, f"A prompt could not be tried: {error}")

    async def _try(self, writer: Json, reader: Json, names: tuple[str, str]) -> PairFinding:
        blurred = False
        for attempt, patience in enumerate(STORE_PATIENCE):
            tokens = probe.prompt(random.SystemRandom().sample(probe.VOCABULARY, self.test.chunk), self.test.tail)
            if await self._is_busy(writer) or await self._is_busy(reader):
                return PairFinding(*names, Reason.SATURATED)
            stored = await self._stored() if attempt == 0 else None
            reference = await self._ask(writer, tokens)
            await self._wait_until_stored(stored, patience)
            shared = await self._ask(reader, tokens)
            taken = probe.taken(shared.before, shared.after, shared.answer, self.test.chunk)
            if taken:
                return await self._judged(reader, tokens, reference.answer, shared.answer, names)
            blurred |= taken is None
        if blurred:
            return PairFinding(*names, Reason.SATURATED)
        text = f"{names[1]} computed a prompt again that {names[0]} had just computed: it found nothing in the cache."
        return PairFinding(*names, Reason.NOTHING_SHARED, text)

    async def _judged(
        self, reader: Json, tokens: Sequence[int], reference: Answer, shared: Answer, names: tuple[str, str]
    ) -> PairFinding:
        """Judge an answer from the cache by what the reader computes itself.

        The writer's answer would not do: an engine of other weights, given most of a prompt's KV, answers much as the
        one that computed it (measured).
        """
        alone = (await self._ask(reader, tokens, probe.CONTROL_SALT)).answer
        if probe.same(alone, shared):
            return PairFinding(*names, Reason.VERIFIED)
        text = f"{names[1]} answers a prompt otherwise with the KV that {names[0]} put into the cache than without it"
        why = (
            "alone, both answer the same, so the cache changed it"
            if probe.same(alone, reference)
            else "alone, too, they answer differently, so they run different weights or settings under one key"
        )
        return PairFinding(*names, Reason.WRONG_KV, f"{text}: answers to users may be wrong. {why.capitalize()}.")

    async def _ask(self, pod: Json, tokens: Sequence[int], salt: str | None = None) -> _Asked:
        url = f"{address(pod, ENGINE)}/v1/completions"
        before = await self._sample(pod)
        uid, since, size = str(pod["metadata"]["uid"]), self.clock(), len(tokens)
        most = Tokens(computed=size, server_hits=size)
        self.note(OwnRequest(uid, since, since + ANSWER_SECONDS + COUNT_SECONDS, most))
        answer = probe.answer(await post(self.http, url, probe.question(self.test.model, tokens, salt), ANSWER_SECONDS))
        after = await self._counted(pod, before, answer.prompt_tokens)
        hits = (
            min(size, after.server_hits - before.server_hits) if answer.cached_tokens is None else answer.cached_tokens
        )
        self.note(OwnRequest(uid, since, self.clock(), Tokens(computed=max(0, size - hits), server_hits=hits)))
        return _Asked(before, after, answer)

    async def _counted(self, pod: Json, before: EngineSample, tokens: int) -> EngineSample:
        """Wait until the engine has counted a prompt, which it does a moment after its answer."""
        deadline = asyncio.get_running_loop().time() + COUNT_SECONDS
        while True:
            after = await self._sample(pod)
            if probe.counted(before, after, tokens):
                return after
            if asyncio.get_running_loop().time() > deadline:
                raise FetchError(f"{_name(pod)} answered a prompt, but its counters of prompt tokens stand still")
            await asyncio.sleep(POLL_SECONDS)

    async def _is_busy(self, pod: Json) -> bool:
        sample = await self._sample(pod)
        return sample.waiting > 0 or sample.running >= self.test.busy

    async def _sample(self, pod: Json) -> EngineSample:
        text = await fetch(self.http, f"{address(pod, ENGINE)}/metrics")
        return engine_sample(_name(pod), str(pod["metadata"]["uid"]), self.clock(), text)

    async def _stored(self) -> int | None:
        """Return how many chunks the LMCache servers have stored, or None where that can't be known."""
        try:
            texts = [await fetch(self.http, f"{address(pod, CACHE_SERVER)}/metrics") for pod in self.test.servers]
            return sum(probe.stored(text) for text in texts)
        except (FetchError, ValueError):
            return None

    async def _wait_until_stored(self, before: int | None, patience: float) -> None:
        """Wait so many seconds, or until more chunks are stored than `before` if that is given."""
        deadline = asyncio.get_running_loop().time() + patience
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            if before is not None and (await self._stored() or 0) > before:
                return
            await asyncio.sleep(min(POLL_SECONDS, left))


def _name(pod: Json) -> str:
    return str(pod["metadata"]["name"])
