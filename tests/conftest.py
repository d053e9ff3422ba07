"""What holds for every test."""

from __future__ import annotations

import asyncio

import pytest


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
