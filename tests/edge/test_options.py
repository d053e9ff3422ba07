"""Flags and environment: which wins, what is missing, what makes no sense."""

from __future__ import annotations

import pytest

from llmcache_operator.edge.options import parse

IMAGES = {
    "LLMCACHE_ENGINE_IMAGE": "engine:1",
    "LLMCACHE_CACHE_SERVER_IMAGE": "cache:1",
    "LLMCACHE_ROUTER_IMAGE": "router:1",
}


def test_the_environment_of_a_pod_is_enough() -> None:
    chosen = parse([], {**IMAGES, "POD_NAMESPACE": "system", "POD_NAME": "operator-0"})

    assert chosen.settings.engine_image == "engine:1"
    assert chosen.settings.operator_namespace == "system"
    assert chosen.namespaces == ()
    assert chosen.identity.startswith("operator-0_")


def test_a_flag_wins_over_its_variable() -> None:
    chosen = parse(["--router-image", "router:2", "--window", "60"], IMAGES)

    assert chosen.settings.router_image == "router:2"
    assert chosen.settings.window == 60


def test_labels_of_pod_monitors_are_pairs() -> None:
    chosen = parse([], {**IMAGES, "LLMCACHE_POD_MONITOR_LABELS": "release=stack, team=ml"})

    assert chosen.settings.pod_monitor_labels == (("release", "stack"), ("team", "ml"))
    assert chosen.settings.pod_monitors
    assert not parse(["--pod-monitors", "Never"], IMAGES).settings.pod_monitors


def test_namespaces_may_be_given_more_than_once() -> None:
    assert parse(["--namespace", "b", "--namespace", "a", "--namespace", "b"], IMAGES).namespaces == ("a", "b")


def test_two_processes_of_one_pod_name_are_two_candidates() -> None:
    environ = {**IMAGES, "POD_NAME": "operator-0"}

    assert parse([], environ).identity != parse([], environ).identity


@pytest.mark.parametrize("variable", IMAGES)
def test_a_missing_image_is_named_by_flag_and_variable(variable: str, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {name: value for name, value in IMAGES.items() if name != variable}

    with pytest.raises(SystemExit) as caught:
        parse([], environ)

    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert variable in message
    assert "--" + variable.removeprefix("LLMCACHE_").lower().replace("_", "-") in message


@pytest.mark.parametrize(
    "argv",
    [
        ["--window", "5"],
        ["--workers", "0"],
        ["--image-pull-policy", "Sometimes"],
        ["--window", "x"],
        ["--pod-monitor-labels", "release"],
    ],
)
def test_nonsense_is_refused_by_name(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(argv, IMAGES)

    assert argv[0] in capsys.readouterr().err
