"""A bounded memory of the prefixes that a cache holds, most recently used last."""

from collections.abc import Sequence
from itertools import islice


class PrefixIndex:
    """Remembers up to `capacity` chained hashes, forgetting the least recently used.

    A chain is remembered tail first, so a hash is never older than one that follows it: like vLLM, which frees the last
    blocks of a request first, the index forgets tails before heads, and what it holds of a chain is always a prefix.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._hashes: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def full(self) -> bool:
        """Whether something new makes it forget something, or soon will: it forgets in batches."""
        return len(self._hashes) >= self._capacity - self._capacity // 16

    def matched(self, chain: Sequence[int]) -> int:
        """Count the leading hashes of `chain` that are held."""
        hashes = self._hashes
        if not chain or chain[0] not in hashes:
            return 0
        low, high = 1, len(chain)
        while low < high:
            middle = (low + high + 1) // 2
            if chain[middle - 1] in hashes:
                low = middle
            else:
                high = middle - 1
        return low

    def touch(self, chain: Sequence[int]) -> None:
        """Remember `chain` as just used."""
        hashes = self._hashes
        for item in reversed(chain[: self._capacity]):
            hashes.pop(item, None)
            hashes[item] = None
        self._shrink()

    def resize(self, capacity: int) -> None:
        """Hold at most `capacity` hashes from now on."""
        self._capacity = capacity
        self._shrink()

    def clear(self) -> None:
        """Forget everything."""
        self._hashes.clear()

    def _shrink(self) -> None:
        # In batches: finding the oldest key of a dict walks over the holes that earlier deletions left.
        if len(self._hashes) > self._capacity:
            surplus = len(self._hashes) - self._capacity + self._capacity // 32
            for item in list(islice(self._hashes, surplus)):
                del self._hashes[item]
