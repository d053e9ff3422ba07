"""How large values are, as far as the guard has seen: LMCache's client can be told of a miss in no other way.

For a GET it reads exactly as many bytes as the head of the value that it expects has (lmcache 0.5.6, measured), and
waits for ever behind the shorter head of a missing one. A head of the right length with another number is a miss to it.
"""

import threading
from collections import OrderedDict

_MOST = 1 << 16


class Sizes:
    """Sizes by key, of the keys that were seen last. LMCache looks a key up before it asks for its value."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[bytes, int] = OrderedDict()
        self._last = 0
        self._lock = threading.Lock()

    def learn(self, key: bytes, size: int) -> None:
        """Take note of a key's size."""
        with self._lock:
            self._last = self._by_key[key] = size
            self._by_key.move_to_end(key)
            if len(self._by_key) > _MOST:
                self._by_key.popitem(last=False)

    def missing(self, key: bytes) -> bytes:
        """Return the head that says that a key has no value."""
        size = self._by_key.get(key, self._last)
        return b"$%s\r\n" % (b"0" * len(str(size)))
