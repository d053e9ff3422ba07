"""Taking engines out when they fail, and back in when they have answered for a while."""

import asyncio
import logging
from dataclasses import dataclass

from llmcache_runtime.policy import Policy
from llmcache_runtime.router.engines import Engine, Engines
from llmcache_runtime.router.fetch import fetch
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.upstream import EngineError

_log = logging.getLogger(__name__)

_TICK = 0.25
_FORGIVEN = 0.1
"""What a good answer takes off the failures counted: an engine that fails more than one request in ten goes out."""


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """When an engine is out, in seconds and counts.

    An engine that was taken out comes back once its probes have succeeded for `trial` without a break, doubled with
    each time it was taken out: one that flaps gets no request that it would soon cut. Meanwhile the others serve, and
    where there are none, those out that answer probes do.
    """

    interval: float = 1.0  # between two signs of life of an engine that is in: a good answer, or else a probe
    ejected_interval: float = 0.25  # between two probes of one that is out
    timeout: float = 1.0  # of a probe
    probe_failures: int = 2  # probes in a row that eject: a hung engine, whose waiting requests then go elsewhere
    give_up_probes: int = 30  # probes in a row after which streams of a hung engine are cut
    request_failures: int = 3  # requests that eject; a connection that isn't accepted ejects at once
    trial: float = 10.0
    max_trial: float = 120.0
    steady: float = 120.0  # an engine that was in for this long starts again at `trial`


class Health:
    """Passive ejection by failed requests, active probes of vLLM's /health, and readmission by probes alone."""

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
        """Count a request that an engine answered, which spares an engine that is in its next probe."""
        engine.failures = max(0.0, engine.failures - _FORGIVEN)
        engine.answered = self._loop.time()

    def suspect(self, engine: Engine) -> None:
        """Have an engine probed at once: a request for it was answered by another one."""
        engine.answered = float("-inf")
        engine.next_probe = 0.0

    async def probe_all(self) -> None:
        """Probe the engines, for ever."""
        while True:
            now = self._loop.time()
            for engine in self._engines:
                if engine.endpoint.serving and engine.next_probe <= now:
                    self._probe_unless_answered(engine, now)
            await asyncio.sleep(min(_TICK, self._settings.ejected_interval))

    def _probe_unless_answered(self, engine: Engine, now: float) -> None:
        if not engine.ejected and now - engine.answered < self._settings.interval:
            self._alive(engine, now)
            engine.next_probe = engine.answered + self._settings.interval
            return
        engine.next_probe = float("inf")
        task = self._loop.create_task(self._probe(engine))
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)

    async def _probe(self, engine: Engine) -> None:
        try:
            status, _ = await fetch(engine.pool, "/health", self._settings.timeout)
            if status != 200:
                raise EngineError(f"/health answered {status}")  # noqa: TRY301
        except EngineError as error:
            self._dead(engine, error)
        else:
            self._alive(engine, self._loop.time())
        settings = self._settings
        interval = settings.ejected_interval if engine.ejected else settings.interval
        engine.next_probe = self._loop.time() + interval

    def _dead(self, engine: Engine, error: EngineError) -> None:
        engine.failed_probes += 1
        hangs = error.refused or engine.failed_probes >= self._settings.probe_failures
        if hangs or engine.ejected:
            self._eject(engine, error)
        if hangs:
            engine.fail_active(f"the engine is not answering: {error}", waiting_only=True)
        if engine.failed_probes >= self._settings.give_up_probes:
            engine.fail_active(f"the engine is not answering: {error}", waiting_only=False)

    def _alive(self, engine: Engine, now: float) -> None:
        engine.failed_probes = 0
        if not engine.ejected:
            if now - engine.steady_since > self._settings.steady:
                engine.ejections = 0
        elif engine.alive_since is None:
            engine.alive_since = now
            self._engines.changed()
        elif now - engine.alive_since >= engine.trial:
            self._readmit(engine)

    def _eject(self, engine: Engine, error: EngineError) -> None:
        """Take an engine out, or begin the trial again of one that is out."""
        engine.last_error = str(error)
        engine.was_refused |= error.refused
        if engine.ejected and engine.alive_since is None:
            return
        engine.alive_since = None
        if not engine.ejected:
            engine.ejected = True
            engine.trial = min(self._settings.trial * 2**engine.ejections, self._settings.max_trial)
            engine.ejections += 1
            engine.next_probe = min(engine.next_probe, self._loop.time() + self._settings.ejected_interval)
            self._metrics.ejections.add((engine.name,))
            _log.warning("engine %s is out until it has been well for %g s: %s", engine.name, engine.trial, error)
        self._engines.changed()

    def _readmit(self, engine: Engine) -> None:
        engine.ejected = False
        # On probation: one failure more takes it out again, and good answers earn its credit back.
        engine.failures = self._settings.request_failures - 1
        engine.steady_since = self._loop.time()
        engine.next_report = 0.0
        if engine.was_refused:
            # Nobody listened on its port: the process is a new one, with an empty cache.
            engine.was_refused = False
            self._policy.restart(engine.id)
            if not engine.endpoint.draining:
                self._policy.add(engine.id, engine.steady_since, cold=True)
        self._engines.changed()
        _log.info("engine %s is back", engine.name)
