"""`/v1/models` of the whole fleet: what any engine serves, LoRA adapters included."""

import asyncio
from typing import Any

import msgspec

from llmcache_runtime.router.engines import Engine, Engines
from llmcache_runtime.router.errors import RouterError
from llmcache_runtime.router.fetch import fetch
from llmcache_runtime.router.upstream import EngineError

_TIMEOUT = 5.0


class _List(msgspec.Struct):
    data: list[dict[str, Any]] = []


class Models:
    """Asks all available engines and merges their answers by model id."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    async def merged(self, authorization: bytes | None) -> bytes:
        """Give the JSON body. Raises RouterError when no engine answers."""
        headers = b"authorization: %b\r\n" % authorization if authorization else b""
        asked = [e for e in self._engines if e.available] or list(self._engines)
        answers = await asyncio.gather(*(self._ask(engine, headers) for engine in asked))
        models = {model.get("id"): model for answer in answers if answer is not None for model in answer}
        if not any(answer is not None for answer in answers):
            raise RouterError(503, "no_engine", "no engine listed its models", retry_after=1)
        return msgspec.json.encode({"object": "list", "data": list(models.values())})

    @staticmethod
    async def _ask(engine: Engine, headers: bytes) -> list[dict[str, Any]] | None:
        try:
            status, body = await fetch(engine.pool, "/v1/models", _TIMEOUT, headers)
            return msgspec.json.decode(body, type=_List).data if status == 200 else None
        except (EngineError, msgspec.MsgspecError):
            return None
