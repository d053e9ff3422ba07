"""What a token costs to compute and to reload, learned from sums of times to first token."""

from collections.abc import Sequence
from dataclasses import dataclass, field

_PRIOR = (0.125, 0.044, 0.01)
"""Seconds for a thousand computed tokens, a thousand reloaded ones, and a request besides: an 8B model on one GPU."""

_NOISE = 0.5
_DOUBT = 2.0
_MEMORY = 0.98
"""How much an observation still counts when the next one comes."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What an engine did between two looks at its counters."""

    computed: float
    reloaded: float
    requests: float
    seconds: float  # sum of the requests' times to first token


@dataclass(slots=True)
class Rates:
    """Least squares with a prior: until something was seen, and for what is never seen, the prior stands."""

    _squares: list[list[float]] = field(default_factory=lambda: [[0.0] * 3 for _ in range(3)])
    _products: list[float] = field(default_factory=lambda: [0.0] * 3)

    def observe(self, seen: Observation) -> None:
        """Take an observation."""
        row = (seen.computed / 1000, seen.reloaded / 1000, seen.requests)
        for i in range(3):
            self._products[i] = _MEMORY * self._products[i] + row[i] * seen.seconds
            for j in range(3):
                self._squares[i][j] = _MEMORY * self._squares[i][j] + row[i] * row[j]

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds for a thousand computed and a thousand reloaded tokens; never below a thousandth of the prior."""
        weights = [(_NOISE / (_DOUBT * prior)) ** 2 for prior in _PRIOR]
        squares = [[self._squares[i][j] + (weights[i] if i == j else 0.0) for j in range(3)] for i in range(3)]
        products = [self._products[i] + weights[i] * _PRIOR[i] for i in range(3)]
        computed, reloaded, _ = _solve(squares, products)
        return max(computed, _PRIOR[0] / 1000), max(reloaded, _PRIOR[1] / 1000)

    @property
    def prefill_rate(self) -> float:
        """Tokens a second that an engine computes."""
        return 1000 / self.seconds[0]

    @property
    def reload_ratio(self) -> float:
        """Cost of a reloaded token against a computed one, at most 1."""
        computed, reloaded = self.seconds
        return min(1.0, reloaded / computed)


def _solve(squares: Sequence[Sequence[float]], products: Sequence[float]) -> list[float]:
    """Solve three linear equations by Cramer's rule; the prior keeps the determinant above zero."""
    whole = _determinant(squares)
    return [
        _determinant([[products[i] if j == column else squares[i][j] for j in range(3)] for i in range(3)]) / whole
        for column in range(3)
    ]


def _determinant(m: Sequence[Sequence[float]]) -> float:
    return (
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    )
