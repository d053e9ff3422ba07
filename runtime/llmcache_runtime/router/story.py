"""What happened to a request, told once to the metrics and once to the log."""

from dataclasses import dataclass, field

from llmcache_runtime.policy import Pick
from llmcache_runtime.router.access_log import Entry, Tokens
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
    cut: bool = False
    error: str | None = None

    def count(self, metrics: Metrics) -> None:
        """Add to the metrics."""
        metrics.requests.add((path_label(self.request.path), str(self.status)))
        if self.pick is not None:
            metrics.picks.add((self.pick.reason,))
            for tier, tokens in zip(self.pick.tiers._fields, self.pick.tiers, strict=True):
                if tokens:
                    metrics.tokens.add((tier,), tokens)

    def entry(self, now: float) -> Entry:
        """Give the log entry: sizes and names, nothing of what the client wrote but its id."""
        return Entry(
            seconds=round(now - self.started, 6),
            id=self.id.decode(),
            method=self.request.method,
            path=path_label(self.request.path),
            status=self.status,
            engine=self.engine,
            attempts=len(self.tried),
            reason=None if self.pick is None else self.pick.reason,
            tokens=None if self.pick is None else Tokens(*self.pick.tiers),
            ttft=None if self.first is None else round(self.first - self.started, 6),
            error=self.error,
            cut=self.cut,
        )
