"""How the store is, as the guard last saw it: one value that all threads share."""

import threading
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What the store is like. Only from an Ok one, or a Full one, something is read."""

    UNKNOWN = "Unknown"
    OK = "Ok"
    UNREACHABLE = "Unreachable"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    FULL = "Full"
    SLOW = "Slow"
    REFUSING = "Refusing"


@dataclass(frozen=True, slots=True)
class View:
    """A state, the store's own words on it, and the latency of the last answer in seconds."""

    state: State = State.UNKNOWN
    detail: str = "not asked yet"
    latency: float = 0.0


class StoreError(Exception):
    """The store can't be used; `state` says what it is like."""

    def __init__(self, state: State, detail: str) -> None:
        super().__init__(detail)
        self.state = state


class Health:
    """The newest view, and whether reads and writes go through."""

    def __init__(self) -> None:
        self._view = View()
        self.faults = 0
        """How often the store has become unusable. Who talked to it before should not go on where it left off."""
        self._lock = threading.Lock()

    @property
    def view(self) -> View:
        """The newest view."""
        return self._view

    @property
    def readable(self) -> bool:
        """Whether the store is asked for what it has."""
        return self._view.state in (State.OK, State.FULL)

    @property
    def writable(self) -> bool:
        """Whether the store is given anything."""
        return self._view.state is State.OK

    def tell(self, state: State, detail: str, latency: float = 0.0) -> bool:
        """Replace the view, and return whether the state is another one."""
        with self._lock:
            changed = state is not self._view.state
            if changed and self.readable:
                self.faults += 1
            self._view = View(state, detail, latency)
        return changed


def of_error(reply: bytes) -> StoreError:
    """Return what an error reply of the store means. Source: valkey, src/server.c (shared objects), src/acl.c."""
    text = reply.lstrip(b"-").decode(errors="replace")
    code = text.partition(" ")[0]
    if code in ("WRONGPASS", "NOAUTH") or "AUTH" in text.partition(":")[0]:
        return StoreError(State.AUTHENTICATION_FAILED, text)
    return StoreError(State.FULL if code == "OOM" else State.REFUSING, text)
