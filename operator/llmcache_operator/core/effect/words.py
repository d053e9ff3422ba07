"""Numbers as people read them in messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcache_operator.core.quantity import GIBI, MEBI

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def count(number: float) -> str:
    """Return a number with separators: 12,000."""
    return f"{number:,.0f}"


def percent(share: float) -> str:
    """Return a part of 1 in percent, with a digit more where it is small."""
    return f"{100 * share:.1f} %" if 0 < share < 0.05 else f"{100 * share:.0f} %"


def span(seconds: float) -> str:
    """Return a stretch of time: 45 s, 5 min."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def size(amount: float) -> str:
    """Return bytes: 300 MiB, 2.5 GiB."""
    return f"{amount / MEBI:.0f} MiB" if amount < GIBI else f"{amount / GIBI:.1f} GiB"


def names(pods: Iterable[str], most: int = 5) -> str:
    """Return names of pods, and how many more there are."""
    listed = sorted(pods)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def by_value(found: Mapping[str, str]) -> str:
    """Return which pods have which value, what fewest have first: `fp8 on chat-1; auto on chat-0, chat-2`."""
    pods_of: dict[str, list[str]] = {}
    for pod, value in found.items():
        pods_of.setdefault(value, []).append(pod)
    fewest_first = sorted(pods_of.items(), key=lambda item: (len(item[1]), item[0]))
    return "; ".join(f"{value} on {names(pods)}" for value, pods in fewest_first)
