"""Taking engines out when they fail, and back in when they answer."""

import asyncio
import logging
from dataclasses import dataclass

from llmcache_runtime.policy import Policy
from llmcache_runtime.router.engines import Engine, Engines
from llmcache_runtime.router.fetch import fetch
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.upstream import EngineError

_log = logging.getLogger(__name__)

_TICK = 0.1


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """When an engine is out, in seconds and counts."""

    interval: float = 1.0  # between two probes of an engine that is in
    ejected_interval: float = 0.25  # and of one that is out
    timeout: float = 1.0  # of a probe
    probe_failures: int = 2  # probes in a row that eject: a hung engine, whose waiting requests then go elsewhere
    give_up_probes: int = 30  # probes in a row after which streams of a hung engine are cut
    request_failures: int = 3  # requests in a row that eject; a connection that isn't accepted ejects at once
    backoff: float = 0.5  # an ejection lasts this long at least, doubled each time
    max_backoff: float = 30.0
    steady: float = 30.0  # an engine that was in for this long starts again at `backoff`


class Health:
    """Passive ejection by failed requests, active probes of vLLM's /health, and readmission."""

    def __init__(self, engines: Engines, policy: Policy, metrics: Metrics, settings: HealthSettings) -> None:
        self._engines = engines
        self._policy = policy
        self._metrics = metrics
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._probes: set[asyncio.Task[None]] = set()

    def failed(self, engine: Engine, error: EngineError) -> None:
        """Count a request that an engine failed."""
        if engine.id not in self._engines:
            return
        engine.failures += 1
        if error.unconnected or engine.failures >= self._settings.request_failures:
            self._eject(engine, error)

    def succeeded(self, engine: Engine) -> None:
        """Count a request that an engine answered."""
        engine.failures = 0
        if engine.ejected and engine.id in self._engines:
            self._readmit(engine)

    async def probe_all(self) -> None:
        """Probe the engines, for ever."""
        while True:
            now = self._loop.time()
            for engine in self._engines:
                if engine.endpoint.serving and engine.next_probe <= now:
                    engine.next_probe = float("inf")
                    task = self._loop.create_task(self._probe(engine))
                    self._probes.add(task)
                    task.add_done_callback(self._probes.discard)
            await asyncio.sleep(_TICK)

    async def _probe(self, engine: Engine) -> None:
        try:
            status, _ = await fetch(engine.pool, "/health", self._settings.timeout)
            if status != 200:
                raise EngineError(f"/health answered {status}")  # noqa: TRY301
        except EngineError as error:
            self._probe_failed(engine, error)
        else:
            self._probe_succeeded(engine)
        settings = self._settings
        interval = settings.ejected_interval if engine.ejected else settings.interval
        engine.next_probe = self._loop.time() + interval

    def _probe_failed(self, engine: Engine, error: EngineError) -> None:
        engine.failed_probes += 1
        engine.was_refused |= error.refused
        if error.refused or engine.failed_probes >= self._settings.probe_failures:
            self._eject(engine, error)
            engine.fail_active(f"the engine is not answering: {error}", waiting_only=True)
        if engine.failed_probes >= self._settings.give_up_probes:
            engine.fail_active(f"the engine is not answering: {error}", waiting_only=False)

    def _probe_succeeded(self, engine: Engine) -> None:
        engine.failed_probes = 0
        now = self._loop.time()
        if engine.ejected and now >= engine.ejected_until:
            self._readmit(engine)
        elif not engine.ejected and now - engine.steady_since > self._settings.steady:
            engine.ejections = 0

    def _eject(self, engine: Engine, error: EngineError) -> None:
        engine.last_error = str(error)
        engine.was_refused |= error.refused
        if engine.ejected:
            return
        seconds = min(self._settings.backoff * 2**engine.ejections, self._settings.max_backoff)
        engine.ejected = True
        engine.ejections += 1
        engine.ejected_until = self._loop.time() + seconds
        engine.next_probe = min(engine.next_probe, self._loop.time() + self._settings.ejected_interval)
        self._engines.changed()
        self._metrics.ejections[(engine.name,)].inc()
        _log.warning("engine %s is out for at least %.1f s: %s", engine.name, seconds, error)

    def _readmit(self, engine: Engine) -> None:
        engine.ejected = False
        engine.failures = engine.failed_probes = 0
        engine.steady_since = self._loop.time()
        engine.next_report = 0.0
        if engine.was_refused:
            # Nobody listened on its port: the process is a new one, with an empty cache.
            engine.was_refused = False
            self._policy.restart(engine.id)
        self._engines.changed()
        _log.info("engine %s is back", engine.name)
