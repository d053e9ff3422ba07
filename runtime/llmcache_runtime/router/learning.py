"""Teaches the policy what engines report: restarts, sizes of caches, whether tokens are shared and at what cost."""

import asyncio
import logging

from llmcache_runtime.policy import Fleet, PrefixAware, Rates
from llmcache_runtime.router.engines import Engine, Engines
from llmcache_runtime.router.fetch import fetch
from llmcache_runtime.router.reports import Report, parse
from llmcache_runtime.router.upstream import EngineError

_log = logging.getLogger(__name__)

_TICK = 0.5
_TIMEOUT = 2.0


class Learning:
    """Reads each engine's metrics now and then, and at once when it has come back."""

    def __init__(self, engines: Engines, policy: Fleet, interval: float) -> None:
        self._engines = engines
        self._policy = policy
        self._interval = interval
        self._rates = Rates()
        self._reports: dict[str, Report] = {}
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Read metrics, for ever; one engine at a time."""
        while True:
            for engine in self._engines:
                if engine.available and engine.next_report <= self._loop.time():
                    await self._read(engine)
                    engine.next_report = self._loop.time() + self._interval
            self._reports = {k: v for k, v in self._reports.items() if k in self._engines}
            await asyncio.sleep(min(_TICK, self._interval))

    async def _read(self, engine: Engine) -> None:
        try:
            status, text = await fetch(engine.pool, "/metrics", _TIMEOUT)
            report = parse(text) if status == 200 else None
        except (EngineError, ValueError) as error:
            _log.info("no metrics from engine %s: %s", engine.name, error)
            return
        if report is not None and engine.id in self._engines:
            self._take(engine, report)

    def _take(self, engine: Engine, report: Report) -> None:
        earlier = self._reports.get(engine.id)
        self._reports[engine.id] = report
        if earlier is not None:
            if report.restarted_since(earlier):
                _log.info("engine %s has restarted", engine.name)
                self._policy.restart(engine.id)
            elif report.requests > earlier.requests:
                self._rates.observe(report.since(earlier))
        self._policy.set_prefill_rate(engine.id, self._rates.prefill_rate)
        if isinstance(self._policy, PrefixAware):
            self._teach(self._policy, engine, report)

    def _teach(self, policy: PrefixAware, engine: Engine, report: Report) -> None:
        if report.capacity:
            policy.set_capacity(engine.id, report.capacity)
        known = [shares for shares in (r.shares for r in self._reports.values()) if shares is not None]
        if known:
            policy.set_reload_ratio(self._rates.reload_ratio if any(known) else 1.0)
