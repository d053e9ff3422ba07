"""What happened to a request, told once to the metrics and once to the log."""

from dataclasses import dataclass, field
from typing import Any

from llmcache_runtime.policy import Pick
from llmcache_runtime.router.http1 import Request
from llmcache_runtime.router.metrics import Metrics
from llmcache_runtime.router.paths import path_label


@dataclass(slots=True)
class Story:
    """A request from its last byte read to the end of its answer. Times are monotonic, in seconds."""

    request: Request
    id: bytes
    started: float
    status: int = 0
    engine: str | None = None
    pick: Pick | None = None
    tried: set[str] = field(default_factory=set)
    first: float | None = None
    last: float = 0.0
    cut: bool = False
    error: str | None = None

    def count(self, metrics: Metrics) -> None:
        """Add to the metrics."""
        metrics.requests[path_label(self.request.path), str(self.status)].inc()
        if self.pick is not None:
            metrics.picks[(self.pick.reason,)].inc()
            for tier, tokens in zip(self.pick.tiers._fields, self.pick.tiers, strict=True):
                if tokens:
                    metrics.tokens[(tier,)].inc(tokens)

    def entry(self, now: float) -> dict[str, Any]:
        """Give the log entry: sizes and names, nothing of what the client wrote but its id."""
        entry: dict[str, Any] = {
            "seconds": round(now - self.started, 6),
            "id": self.id.decode(),
            "method": self.request.method,
            "path": path_label(self.request.path),
            "status": self.status,
            "engine": self.engine,
            "attempts": len(self.tried),
        }
        if self.pick is not None:
            entry |= {"reason": self.pick.reason, "tokens": self.pick.tiers._asdict()}
        if self.first is not None:
            entry["ttft"] = round(self.first - self.started, 6)
        if self.error is not None:
            entry["error"] = self.error
        if self.cut:
            entry["cut"] = True
        return entry
