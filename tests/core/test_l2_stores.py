"""What is said of a volume and a bucket behind the LMCache servers, by what they count and tell themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from llmcache_operator.api.conditions import Reason
from llmcache_operator.core.conditions import Parts, Verdict
from llmcache_operator.core.counts import L2Stores
from llmcache_operator.core.l2 import l2_verdict
from llmcache_operator.core.l2_stores import lost
from llmcache_operator.core.rollout import Rollout
from llmcache_operator.core.values import CacheSample, L2Sample
from llmcache_operator.core.window import Measurement
from tests.core.samples import NOW, target

if TYPE_CHECKING:
    from collections.abc import Sequence

FILES: dict[str, Any] = {"fileSystem": {"claimName": "kv"}}
BUCKET: dict[str, Any] = {"s3": {"bucket": "kv-1", "region": "eu-west-1"}}
VALKEY: dict[str, Any] = {"valkey": {"managed": {"memory": "1Gi"}}}
SCRAPE = 15.0


def stores(submitted: int, stored: int, tasks: int, wrote: int, tier: str = "fs") -> L2Stores:
    """What a server counts that has one tier."""
    return L2Stores(submitted, stored, {tier: tasks}, {tier: wrote})


def scraped(*told: L2Stores, started_at: Sequence[float] | None = None) -> tuple[CacheSample, ...]:
    """Scrapes of a server that end now; it started long ago, or at these times."""
    starts = started_at or [NOW - 86_400] * len(told)
    first = NOW - SCRAPE * (len(told) - 1)
    return tuple(
        CacheSample(first + SCRAPE * at, 0.5, 1 << 20, 0, started_at=start, l2=l2, objects=1)
        for at, (l2, start) in enumerate(zip(told, starts, strict=True))
    )


Servers = dict[str, tuple[CacheSample, ...]]


def verdict(l2: dict[str, Any], servers: Servers, seen: Measurement | None = None) -> Verdict:
    seen = replace(seen or Measurement(), caches=servers)
    found = l2_verdict(target(cache={"l2": l2}), Parts({}, (), 0, ()), Rollout(1, 1, settled=True), seen, NOW)
    assert found is not None
    return found


WELL = scraped(stores(10, 10, 2, 2), stores(20, 20, 4, 4))
FULL = scraped(stores(10, 10, 2, 2), stores(30, 10, 5, 2), stores(30, 10, 5, 2), stores(30, 10, 5, 2))


def test_a_volume_that_takes_nothing_more_is_named_with_what_was_lost_since() -> None:
    found = verdict(FILES, {"chat-cache-0": FULL, "chat-cache-1": WELL})

    assert (found.status, found.reason) == (False, Reason.L2_NOT_STORING)
    assert found.message.startswith(
        "1 of 2 LMCache servers can't store in fileSystem: chat-cache-0 lost the last 20 chunks. See whether the "
        "volume is full or read-only"
    )


def test_a_bucket_that_refuses_is_named_with_what_to_look_at() -> None:
    refused = scraped(stores(0, 0, 0, 0, "s3"), *[stores(8, 0, 2, 0, "s3")] * 3)

    found = verdict(BUCKET, {"a": refused})

    assert found.reason is Reason.L2_NOT_STORING
    assert "s3: a lost the last 8 chunks. See whether the bucket is there, and whether these" in found.message


def test_a_bucket_that_lmcache_has_given_up_says_so_until_the_server_restarts() -> None:
    given_up = replace(stores(8, 4, 2, 1, "s3"), given_up=frozenset({"s3"}))

    found = verdict(BUCKET, {"a/cache-server": scraped(given_up)})

    assert (found.status, found.reason) == (False, Reason.L2_GIVEN_UP)
    assert "then delete pods like a one by one." in found.message
    again = scraped(given_up, stores(0, 0, 0, 0, "s3"), started_at=[1.0, 2.0])
    assert verdict(BUCKET, {"a": again}).status is True


def test_a_status_that_could_not_be_read_once_changes_nothing() -> None:
    given_up = replace(stores(8, 4, 2, 1, "s3"), given_up=frozenset({"s3"}))
    first, second = scraped(given_up, stores(8, 4, 2, 1, "s3"))

    assert verdict(BUCKET, {"a": (first, replace(second, objects=None))}).reason is Reason.L2_GIVEN_UP
    assert verdict(BUCKET, {"a": (first, second)}).status is True


def held(told: L2Stores) -> list[L2Stores]:
    """The same in three scrapes, for all that may have been on its way."""
    return [told] * 3


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([stores(10, 10, 2, 2)], id="one scrape"),
        pytest.param([stores(10, 0, 0, 0), stores(20, 0, 0, 0)], id="on their way"),
        pytest.param([stores(10, 10, 2, 2), stores(99, 10, 3, 2), stores(99, 10, 3, 2)], id="one ended, others go on"),
        pytest.param([stores(10, 10, 2, 2), *held(stores(20, 20, 4, 2))], id="there already"),
        pytest.param([stores(10, 10, 2, 2), stores(20, 10, 3, 2), *held(stores(30, 20, 5, 4))], id="well again"),
        pytest.param([stores(10, 10, 2, 2), *held(stores(20, 15, 4, 3))], id="some of them"),
    ],
)
def test_nothing_is_lost_while_tasks_go_on_or_find_their_chunks_there_or_work_in_part(told: list[L2Stores]) -> None:
    assert lost("fs", scraped(*told), alone=True) <= 0
    assert verdict(FILES, {"a": scraped(*told)}).status is True


def test_tasks_that_write_and_fail_all_the_same_lose_their_chunks_too() -> None:
    throttled = scraped(stores(10, 10, 2, 2, "s3"), *held(stores(310, 10, 20, 20, "s3")))

    assert "lost the last 300 chunks" in verdict(BUCKET, {"a": throttled}).message


def test_what_a_server_lost_before_it_restarted_is_past() -> None:
    before = [stores(10, 0, 2, 0)] * 3
    restarted = scraped(*before, stores(0, 0, 0, 0), started_at=[1.0, 1.0, 1.0, 2.0])

    assert lost("fs", restarted[:3], alone=True) == 10
    assert lost("fs", restarted, alone=True) == 0


def both(submitted: int, stored: int, files: tuple[int, int], objects: tuple[int, int]) -> L2Stores:
    """What a server counts that has a volume and a bucket: chunks, and of each the tasks that ended and that wrote."""
    names = ("fs", "s3")
    return L2Stores(
        submitted, stored, dict(zip(names, (files[0], objects[0]), strict=True)),
        dict(zip(names, (files[1], objects[1]), strict=True)),
    )  # fmt: skip


def test_a_tier_that_works_does_not_hide_one_that_fails() -> None:
    told = [both(20, 20, (1, 1), (1, 1)), *held(both(40, 30, (3, 1), (3, 3)))]

    assert "can't store in fileSystem: a lost the last 10" in verdict(FILES | BUCKET, {"a": scraped(*told)}).message


def test_of_two_tiers_that_wrote_nothing_both_are_named() -> None:
    told = [both(20, 20, (1, 1), (1, 1)), *held(both(40, 30, (3, 1), (3, 1)))]

    found = verdict(FILES | BUCKET, {"a": scraped(*told)}).message

    assert "can't store in fileSystem and s3: a lost the last 10 chunks. See whether the volume" in found
    assert "See whether the bucket" in found


def test_a_bucket_that_is_given_up_explains_what_was_lost() -> None:
    told = [both(20, 20, (1, 1), (1, 1)), *held(both(40, 30, (3, 1), (3, 1)))]
    told[-1] = replace(told[-1], given_up=frozenset({"s3"}))

    assert verdict(FILES | BUCKET, {"a": scraped(*told)}).reason is Reason.L2_GIVEN_UP


def test_valkeys_trouble_comes_first_and_hides_no_other_once_it_is_over() -> None:
    three = VALKEY | FILES
    ill, well = (Measurement().with_l2(L2Sample(NOW, state, "its words"), "a") for state in ("Full", "Ok"))

    assert verdict(three, {"a": FULL}, ill).reason is Reason.L2_FULL
    assert verdict(three, {"a": FULL}, well).reason is Reason.L2_NOT_STORING
    assert verdict(three, {"a": WELL}, well).message == "1 of 1 LMCache servers use Valkey"


def test_what_is_well_is_said_and_what_nobody_told_is_unknown() -> None:
    well, unknown = verdict(FILES | BUCKET, {"a": WELL}), verdict(FILES, {})
    old = tuple(replace(sample, at=sample.at - 600) for sample in WELL)

    assert (well.status, well.message) == (
        True,
        "No LMCache server, of 1, has lost its newest stores in fileSystem and s3",
    )
    assert (unknown.status, unknown.reason) == (None, Reason.NOT_SAMPLED_YET)
    assert verdict(FILES, {"a": old}).status is None
