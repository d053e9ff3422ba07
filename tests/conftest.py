"""What holds for every test."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy is slow, which says nothing of the code. CI tries the same examples each time, so that it fails
# for what changed; everybody else looks for new ones.
# Half of hypothesis' usual examples: the tests of core are to end in under 10 s, and find new examples with each run.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("here", max_examples=50, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("ci", max_examples=50, deadline=None, suppress_health_check=_SLOW, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session", autouse=True)
def _no_event_loop_by_accident() -> None:
    """Keep looptime from leaking a loop.

    It asks the policy for the current loop around every test, and a policy that was never told of one makes one
    that nobody closes.
    """
    asyncio.set_event_loop(None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `pytest --update-golden` write golden files anew; review their diff like code."""
    parser.addoption("--update-golden", action="store_true", help="write tests/**/golden/* from what the code says now")
