"""One real API server for all tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.apiserver.server import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running API server, empty but for what tests before put there."""
    server = ApiServer(tmp_path_factory.mktemp("api"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
