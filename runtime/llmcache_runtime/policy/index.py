"""A bounded memory of the prefixes that a cache holds."""

from collections import OrderedDict
from collections.abc import Sequence


class PrefixIndex:
    """Remembers up to `capacity` chained hashes, forgetting the least recently used.

    What costs here is the number of entries, so hashes that follow each other and were last used together are one: a
    run, found by its first hash. A chained hash stands for all that precedes it, so runs need no links between them,
    and two that agree at one place agree everywhere before it.

    A chain is remembered tail first, and runs are forgotten from their ends: like vLLM, which frees the last blocks of
    a request first, the index forgets tails before heads, and what it holds of a chain is always a prefix.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._runs: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self._held = 0
        self.full = False
        """Whether something new makes it forget something, or soon will."""

    def __len__(self) -> int:
        return self._held

    def matched(self, chain: Sequence[int]) -> int:
        """Count the leading hashes of `chain` that are held."""
        at = 0
        while at < len(chain) and (run := self._runs.get(chain[at])):
            at += _common(run, chain, at)
        return at

    def touch(self, chain: tuple[int, ...]) -> None:
        """Remember `chain` as just used."""
        runs, at, used = self._runs, 0, []
        while at < len(chain) and (run := runs.get(chain[at])):
            common = _common(run, chain, at)
            if common < len(run):
                # The rest is a run of its own from now on, and counts as used just before this chain.
                runs[run[0]], runs[run[common]] = run[:common], run[common:]
            used.append(run[0])
            at += common
        if at < len(chain):
            if not used:
                used.append(chain[0])
            runs[used[-1]] = runs.get(used[-1], ()) + chain[at:]
            self._held += len(chain) - at
        for first in reversed(used):
            runs.move_to_end(first)
        self._shrink()

    def resize(self, capacity: int) -> None:
        """Hold at most `capacity` hashes from now on."""
        self._capacity = capacity
        self._shrink()

    def _shrink(self) -> None:
        while (surplus := self._held - self._capacity) > 0:
            first, run = self._runs.popitem(last=False)
            if len(run) > surplus:
                self._runs[first] = run[:-surplus]
                self._runs.move_to_end(first, last=False)
            self._held -= min(len(run), surplus)
        self.full = self._held >= self._capacity - self._capacity // 16


def _common(run: Sequence[int], chain: Sequence[int], at: int) -> int:
    """Count the hashes at the beginning of `run` that `chain` has from `at` on, where they share the first."""
    length = min(len(run), len(chain) - at)
    if run[length - 1] == chain[at + length - 1]:
        return length
    low, high = 1, length - 1
    while low < high:
        middle = (low + high + 1) // 2
        if run[middle - 1] == chain[at + middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low
