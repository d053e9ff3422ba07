"""Short requests through the router, one after the other, as long as something is done to the service."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from types import TracebackType

    from e2e.services import Service

_SECONDS = 240


class Trickle:
    """Runs while its context lasts; keeps what went wrong."""

    def __init__(self, service: Service) -> None:
        router = service.kube.get("service", f"{service.name}-router")
        assert router is not None
        self._url = f"http://{router['spec']['clusterIP']}/v1/completions"
        self._model = service.name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered = 0
        self.lost: list[str] = []

    def none_lost(self) -> None:
        """Raise TimeoutError where a request was lost, or none was answered at all."""
        if self.lost or not self.answered:
            raise TimeoutError(f"{len(self.lost)} of {self.answered + len(self.lost)} requests lost: {self.lost[:3]}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.5):
            number += 1
            body = {"model": self._model, "prompt": f"{number}: once upon a time", "max_tokens": 4, "temperature": 0}
            try:
                httpx.post(self._url, json=body, timeout=_SECONDS, trust_env=False).raise_for_status()
            except httpx.HTTPError as error:
                self.lost.append(f"{type(error).__name__}: {error}")
            else:
                self.answered += 1
