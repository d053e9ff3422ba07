"""The fuzzer's corpus, and the table of cases of request framing, hold what must hold for any bytes."""

from pathlib import Path

import pytest

from tests.fuzz.parsing import check
from tests.router.test_framing import ACCEPTED, REFUSED

CORPUS = sorted(Path(__file__).with_name("corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=[path.name for path in CORPUS])
def test_the_corpus_still_passes(path: Path) -> None:
    check(path.read_bytes())


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("case", [*REFUSED.values(), *ACCEPTED.values()], ids=[*REFUSED, *ACCEPTED])
def test_cases_of_framing_pass(case: bytes, step: int) -> None:
    check(bytes((0, step)) + case)
