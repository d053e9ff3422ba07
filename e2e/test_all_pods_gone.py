"""Every engine and its LMCache server deleted at once: what comes back, by what is behind the servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.bench.measure import prompt
from e2e.kube import wait_until
from e2e.services import CLAIM
from e2e.valkey import CHUNK
from llmcache_operator.core import parse
from llmcache_operator.core.children.server import HTTP_PORT
from llmcache_operator.core.exposition import maybe, series

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e.cluster.handle import Handle
    from e2e.kube import Kube
    from e2e.services import Answer, Service

WORDS = 400
"""Some 1,800 tokens."""

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("models")]


def test_without_an_l2_nothing_comes_back_and_the_status_says_that_nothing_is_shared(
    service: Callable[..., Service],
) -> None:
    one = service("alone", engine={"replicas": 2}, cache={"topology": "PerEngine"})
    one.wait("Ready", "True")
    first, again = delete_all(one, parse.WRITTEN)

    assert first.tokens.computed == again.tokens.computed == first.tokens.total
    told = one.wait("CacheReady", "True", "NotShared", seconds=60)
    assert "A server that goes takes its cache along" in told["message"]


def test_a_volume_outlives_all_pods(service: Callable[..., Service], kube: Kube, cluster: Handle) -> None:
    if cluster.kind != "local":
        pytest.skip("two engines write to one claim, which not every cluster's volumes take: --cluster=local")
    kube.apply(CLAIM)
    l2 = {"fileSystem": {"claimName": CLAIM["metadata"]["name"]}}
    one = service("kept", engine={"replicas": 2}, cache={"topology": "PerEngine", "l2": l2})
    one.wait("Ready", "True")
    first, again = delete_all(one, parse.STORED)

    assert first.tokens.computed == first.tokens.total
    assert again.tokens.server >= 0.9 * (first.tokens.total // CHUNK * CHUNK)
    assert again.is_like(first)


def delete_all(service: Service, counter: str) -> tuple[Answer, Answer]:
    """Let an engine compute a prompt, delete all pods once it is stored, and ask another of the engines that come."""
    old = service.engines()

    def stored() -> int:
        # A counter that nothing has been counted with is not there.
        page = service.kube.raw(old[0], HTTP_PORT, "/metrics")
        return maybe(series(page, [counter]), counter) or 0

    text, before = prompt(WORDS), stored()
    first = service.ask_engine(old[0], text)
    chunks = first.tokens.total // CHUNK
    wait_until("LMCache has stored the prompt", lambda: stored() - before >= chunks, seconds=60)
    service.kube.run("delete", "pod", *old, "--grace-period=5", "--wait=false")
    engines = service.renewed(old)
    return first, service.ask_engine(engines[1], text)
