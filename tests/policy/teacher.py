"""What a router learns from engines' metrics, in a simulated fleet."""

from collections.abc import Iterable, Mapping

from llmcache_runtime.policy import Fleet, Observation, PrefixAware, Rates, TierTokens

INTERVAL = 10.0
"""Seconds between two looks at the metrics."""

NOTHING = Observation(0.0, 0.0, 0.0, 0.0)


def counted(before: Observation, tiers: TierTokens, wait: float) -> Observation:
    """Move the counters that a router reads by one request."""
    return Observation(
        before.computed + tiers.compute,
        before.reloaded + tiers.shared,
        before.requests + 1,
        before.seconds + wait,
    )


def _since(before: Observation, now: Observation) -> Observation:
    return Observation(
        now.computed - before.computed,
        now.reloaded - before.reloaded,
        now.requests - before.requests,
        now.seconds - before.seconds,
    )


class Teacher:
    """Does what `llmcache_runtime.router.learning` does; without `price` a reload stays as dear as computing."""

    def __init__(self, capacity: int, *, price: bool) -> None:
        self._capacity, self._price = capacity, price
        self._rates = Rates()
        self._earlier: Mapping[str, Observation] = {}

    def teach(self, seen: Mapping[str, Observation], policies: Iterable[Fleet]) -> None:
        """Learn from the engines' counters, and tell every `PrefixAware`."""
        for name, before in self._earlier.items():
            if seen[name].requests > before.requests:
                self._rates.observe(_since(before, seen[name]))
        self._earlier = seen
        ratio, speed = self._rates.reload_ratio if self._price else 1.0, self._rates.prefill_rate
        for policy in policies:
            if isinstance(policy, PrefixAware):
                policy.set_reload_ratio(ratio)
                for name in seen:
                    policy.set_prefill_rate(name, speed)
                    policy.set_capacity(name, self._capacity)
