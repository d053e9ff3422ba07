"""operator/docs/metrics.md lists every metric that we expose, with its type, and no other."""

from __future__ import annotations

import re

from tests.monitoring.names import ROOT, ours

PAGE = (ROOT / "operator/docs/metrics.md").read_text()
ROWS = re.findall(r"^\| `(llmcache_(?:operator|service|router|l2)_\w+)`[^|]*\| (\w+) \|", PAGE, re.MULTILINE)


def test_the_page_lists_what_is_exposed_and_nothing_else() -> None:
    assert dict(ROWS) == ours()
    assert len(ROWS) == len(dict(ROWS))
