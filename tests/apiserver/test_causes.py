"""What the status says of fake engines under load; `make causes` has real ones, and more time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.causes.fake.causes import CAUSES
from e2e.causes.fake.run import change_engines
from e2e.causes.fake.stage import Stage, stage
from tests.apiserver.conftest import operators

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e.causes.cause import Cause, Result
    from e2e.causes.fake.fleet import Fleet
    from tests.apiserver.server import ApiServer

WINDOW = 60
PATIENCE = 120.0
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def shared(
    api_server: ApiServer, operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """An operator that measures every second."""
    with operators(operator_kubeconfig, tmp_path_factory.mktemp("causes")) as start:
        start("--scrape-interval", "1", "--status-interval", "5", "--window", str(WINDOW)).wait_until_leading()
        with stage(api_server.kubeconfig) as shared:
            yield shared


@pytest.fixture(scope="module")
def results(shared: Stage) -> dict[str, Result]:
    """What became of each cause; all are injected at the same time."""
    return {result.cause: result for result in shared.prove_all(CAUSES, patience=PATIENCE)}


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_a_cause_is_named_and_its_name_goes_with_it(results: dict[str, Result], cause: Cause[Fleet]) -> None:
    result = results[cause.name]

    assert result.shown == cause.reason, result
    assert None not in (result.named, result.cleared), result


def test_the_hit_rate_is_that_of_the_answers_while_engines_come_and_go(shared: Stage) -> None:
    run = change_engines(shared, len(CAUSES), pause=4.0, window=WINDOW, settle=8.0)

    assert run.requests > 20
    assert abs(run.shown - run.counted) <= 1
