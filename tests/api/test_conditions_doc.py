"""operator/docs/conditions.md explains every condition and every reason, and nothing that is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmcache_operator.api.conditions import ConditionType, Reason

TEXT = (Path(__file__).parents[2] / "operator" / "docs" / "conditions.md").read_text()
SECTIONS = re.split(r"^## (.+)$", TEXT.split("\n# Conditions\n")[1], flags=re.MULTILINE)[1:]
NAMES, BODIES = SECTIONS[::2], SECTIONS[1::2]
NOTHING_TO_SEE = {"Available", "Reconciling", "AllSampled", "NotSampledYet", "Ready", "Paused", "MetricsAvailable"}


def test_every_condition_and_reason_has_its_section_and_no_other_has() -> None:
    assert sorted(NAMES) == sorted([*ConditionType, *Reason])


@pytest.mark.parametrize(
    ("name", "body"), list(zip(NAMES, BODIES, strict=True)), ids=[f"{n}-{name}" for n, name in enumerate(NAMES)]
)
def test_a_section_says_what_it_means_and_how_to_see_it(name: str, body: str) -> None:
    assert len(body.strip()) > 40
    assert name in NOTHING_TO_SEE or "    kubectl " in body


def test_links_lead_to_sections() -> None:
    anchors = {name.lower() for name in NAMES}

    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
