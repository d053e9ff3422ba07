"""What a front end and a policy say to each other."""

from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec import Struct


class Reason(StrEnum):
    """Why an engine was picked; the label of the picks metric."""

    PREFIX = "prefix"  # no other engine holds more of this prompt
    SHARED = "shared"  # no engine holds it, the shared tier does
    HOME = "home"  # nobody holds it: the engine that every replica would pick
    LOAD = "load"  # another engine holds more, or is home, but is too busy
    SESSION = "session"
    SESSION_OVERFLOW = "session-overflow"  # the session's own engine is over its bound
    LEAST_LOADED = "least-loaded"
    ROUND_ROBIN = "round-robin"


class TierTokens(NamedTuple):
    """Where the tokens of a prompt are expected to come from; estimates in tokens."""

    engine: int
    shared: int
    compute: int


class RequestKey(Struct, frozen=True, gc=False):
    """What a policy may know of a request: hashes and sizes, never text.

    chunks: chained hashes, one for each full chunk of the canonical text; equal i-th ones mean equal text up to there.
    tokens: estimated length of the prompt.
    home: a hash that stays the same over the turns of a conversation and differs between conversations.
    streams: the first token will be seen when it comes.
    session: the value of the session header, where one is configured and sent.
    """

    chunks: tuple[int, ...] = ()
    tokens: int = 0
    home: int = 0
    streams: bool = True
    session: bytes | None = None


class Pick(Struct, frozen=True, gc=False):
    """An engine for a request. `cost` is the prefill work it adds there, in tokens priced by tier."""

    engine: str
    reason: Reason
    tiers: TierTokens
    cost: float
    key: RequestKey


class Ticket(Struct, eq=False, gc=False):
    """A started request. Its two flags make every later call safe to repeat."""

    pick: Pick
    queued: bool = True
    running: bool = True


class Policy(Protocol):
    """The whole of what a front end may ask. `now` is in seconds of any monotonic clock."""

    def pick(self, key: RequestKey, now: float, exclude: AbstractSet[str] = frozenset()) -> Pick | None:
        """Choose an engine that is not in `exclude`; None when there is none. Changes nothing that `on_start` would."""

    def on_start(self, pick: Pick, now: float) -> Ticket:
        """Count a request that was sent to the picked engine."""

    def on_first_token(self, ticket: Ticket, now: float) -> None:
        """Take note that its prefill is over."""

    def on_end(self, ticket: Ticket, now: float) -> None:
        """Take note that it ended, in whatever way."""

    def add(self, engine: str, now: float, *, cold: bool = False) -> None:
        """Let an engine join; `cold` lets its load rise slowly. Adding a known engine ends its draining."""

    def remove(self, engine: str) -> None:
        """Let an engine go. Its requests may still end later."""

    def restart(self, engine: str) -> None:
        """Take note that an engine lost its cache."""

    def drain(self, engine: str) -> None:
        """Send an engine new requests only while no other is there."""
