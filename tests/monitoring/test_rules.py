"""Rules: their unit tests run in promtool (`make monitoring-check`); here is what promtool doesn't know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from e2e.monitoring.promtool import RULES, TESTS
from llmcache_operator.api.conditions import ConditionType, Reason
from tests.monitoring.names import ROOT, named, samples

if TYPE_CHECKING:
    from llmcache_operator.core.values import Json

PAGE = (ROOT / "operator/docs/metrics.md").read_text()
GROUPS: list[Json] = yaml.safe_load(RULES.read_text())["spec"]["groups"]
FOUND: dict[str, Json] = {rule.get("alert", rule.get("record")): rule for group in GROUPS for rule in group["rules"]}
ALERTS = {name: rule for name, rule in FOUND.items() if "alert" in rule}
RECORDS = FOUND.keys() - ALERTS.keys()


@pytest.mark.parametrize("name", FOUND)
def test_every_metric_of_a_rule_is_exposed_or_recorded_by_somebody(name: str) -> None:
    found = named(FOUND[name]["expr"])

    assert found
    assert found <= samples() | RECORDS


def test_every_alert_has_its_section_and_no_other_has() -> None:
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == list(ALERTS)


def test_every_record_is_documented() -> None:
    assert set(re.findall(r"`(llmcache:[\w:]+)`", PAGE)) == RECORDS


def test_every_alert_is_tested_as_it_fires() -> None:
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}

    assert fired == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_where_it_is_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]

    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert alert["annotations"].keys() == {"summary", "description"}


def test_conditions_and_reasons_are_those_of_the_resource() -> None:
    text = RULES.read_text()

    assert set(re.findall(r'\btype="(\w+)"', text)) <= set(ConditionType)
    assert set(re.findall(r'\breason!?="(\w+)"', text)) <= set(Reason)
