"""VersionsCompatible: what runs, against what is known of pairs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from llmcache_operator.api.compatibility import PAIRS
from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.values import CacheSample, EngineSample
from llmcache_operator.core.versions import release, versions
from llmcache_operator.core.window import Measurement

if TYPE_CHECKING:
    from llmcache_operator.core.conditions import Verdict


def seen(engines: list[str | None], caches: list[str | None], *, settled: bool = True) -> Verdict:
    measurement = Measurement()
    for number, version in enumerate(engines):
        measurement = measurement.with_engine(
            EngineSample(f"e{number}", f"uid-{number}", 1.0, 0, 0, 0, version=version)
        )
    for number, version in enumerate(caches):
        measurement = measurement.with_cache(CacheSample(1.0, 0.0, 0, 0, version=version), f"c{number}")
    return versions(measurement, [f"uid-{number}" for number in range(len(engines))], settled=settled)


def test_the_pair_that_was_tested_is_compatible_however_it_was_built() -> None:
    for vllm, lmcache in (("0.32.0", "0.5.6"), ("0.32.0+cpu", "0.5.6-g3e11e108"), ("v0.32", "0.5.6.dev1")):
        assert seen([vllm, vllm], [lmcache]).reason is Reason.COMPATIBLE


@pytest.mark.parametrize(
    ("vllm", "lmcache", "source"),
    [
        ("0.20.1", "0.5.0", "3957"),
        ("0.17.1", "0.5.1", "4267"),
        ("0.20.0", "0.4.2", "9982"),
        ("0.15.0", "0.3.8", "33440"),
        ("0.9.2", "0.3.1", "1003"),
        ("0.32.0", "0.4.2", "1060"),
    ],
)
def test_a_pair_known_bad_says_who_knows(vllm: str, lmcache: str, source: str) -> None:
    verdict = seen([vllm], [lmcache])

    assert (verdict.status, verdict.reason) == (False, Reason.KNOWN_BAD)
    assert source in verdict.message
    assert vllm in verdict.message


@pytest.mark.parametrize(("vllm", "lmcache"), [("0.33.0", "0.5.6"), ("0.32.1", "0.5.7"), ("0.15.0", "0.3.9")])
def test_a_pair_that_no_row_is_about_is_untested_not_bad(vllm: str, lmcache: str) -> None:
    verdict = seen([vllm], [lmcache])

    assert (verdict.status, verdict.reason) == (None, Reason.UNTESTED_PAIR)


def test_pods_that_differ_are_named_the_fewest_first() -> None:
    verdict = seen(["0.32.0", "0.32.0", "0.31.0"], ["0.5.6"])

    assert (verdict.status, verdict.reason) == (False, Reason.VERSIONS_DIFFER)
    assert "0.31.0 on e2; 0.32.0 on e0, e1" in verdict.message
    assert seen(["0.32.0"], ["0.5.6", "0.5.5"]).reason is Reason.VERSIONS_DIFFER


def test_a_rollout_may_have_two_versions() -> None:
    assert seen(["0.31.0", "0.32.0"], ["0.5.6"], settled=False).reason is Reason.COMPATIBLE


@pytest.mark.parametrize(
    ("engines", "caches", "lacking"),
    [([], [], "engines"), ([None], ["0.5.6"], "engines"), (["0.32.0"], [None], "LMCache"), (["0.32.0"], [], "LMCache")],
)
def test_what_nobody_told_is_unknown(engines: list[str | None], caches: list[str | None], lacking: str) -> None:
    verdict = seen(engines, caches)

    assert (verdict.status, verdict.reason) == (None, Reason.VERSION_UNKNOWN)
    assert lacking in verdict.message


@pytest.mark.parametrize(
    ("lower", "higher"), [("0.9.2", "0.10.0"), ("0.5", "0.5.1"), ("nightly", "0.1"), ("0.5.6", "0.5.10"), ("0.32", "1")]
)
def test_versions_are_ordered_by_their_numbers(lower: str, higher: str) -> None:
    assert release(lower) < release(higher)


def test_zeros_at_the_end_mean_nothing() -> None:
    assert release("0.32.0") == release("0.32") == release("v0.32.0+cpu")


def test_every_row_has_its_source_and_its_date() -> None:
    for pair in PAIRS:
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", pair.date)
        assert pair.source
        assert pair.what.endswith(".")
