"""Looks how the store is, all the time and by itself, so that no request has to find out."""

import logging
import time
from dataclasses import dataclass, field

from llmcache_runtime.l2guard.health import Health, State, StoreError, View
from llmcache_runtime.l2guard.store import Address, Store

log = logging.getLogger(__name__)

_KEY, _VALUE = b"llmcache-guard", b"1"
_SLOW_IN_A_ROW = 3
"""One slow answer may have waited behind somebody's large value."""


@dataclass
class Prober:
    """Asks every `interval` seconds; answers that take longer than `slow` seconds are no help to anybody."""

    address: Address
    health: Health
    slow: float
    interval: float = 1.0
    _slow_ones: int = field(default=0, init=False)

    def run(self) -> None:
        """Probe for ever."""
        store = Store(self.address)
        while True:
            self.probe(store)
            time.sleep(self.interval)

    def probe(self, store: Store) -> None:
        """Probe once: is it there, does it let us in, is it quick, does it take what it is given."""
        view = self._look(store)
        if self.health.tell(view.state, view.detail, view.latency):
            log.warning("%s: %s", view.state.value, view.detail)

    def _look(self, store: Store) -> View:
        try:
            # The first command may have to connect, which takes more than one round trip.
            store.ask(b"PING")
            begin = time.monotonic()
            store.ask(b"PING")
            latency = time.monotonic() - begin
            self._slow_ones = self._slow_ones + 1 if latency > self.slow else 0
            if self._slow_ones >= _SLOW_IN_A_ROW or (self._slow_ones and self.health.view.state is State.SLOW):
                return View(State.SLOW, f"an answer took {1000 * latency:.0f} ms", latency)
            store.ask(b"SET", _KEY, _VALUE, b"EX", b"60")
        except StoreError as error:
            self._slow_ones = 0
            return View(error.state, str(error))
        return View(State.OK, "answers and takes what it is given", latency)
