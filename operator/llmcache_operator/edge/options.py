"""Command line and environment of the operator. A flag wins over its variable."""

from __future__ import annotations

import argparse
import os
import socket
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcache_operator.core.values import VALKEY_IMAGE, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

IMAGES = {
    "--engine-image": ("LLMCACHE_ENGINE_IMAGE", "image that runs `vllm serve`"),
    "--cache-server-image": ("LLMCACHE_CACHE_SERVER_IMAGE", "image that runs `lmcache server`"),
    "--router-image": ("LLMCACHE_ROUTER_IMAGE", "image that runs `llmcache-router` and `llmcache-gate`"),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What main needs to start: the settings of the decisions and the operator's own."""

    settings: Settings
    namespaces: tuple[str, ...]
    port: int
    workers: int
    log_level: str
    identity: str


def parse(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Options:
    """Read the options; an error ends the process with status 2 and names flag and variable."""
    parser = _parser(environ)
    found = parser.parse_args(argv)
    for flag, (variable, what) in IMAGES.items():
        if not getattr(found, flag[2:].replace("-", "_")):
            parser.error(f"{flag} (or {variable}) is missing: the {what}")
    settings = Settings(
        engine_image=found.engine_image,
        cache_server_image=found.cache_server_image,
        router_image=found.router_image,
        valkey_image=found.valkey_image,
        operator_namespace=found.operator_namespace,
        scraper_namespace=found.scraper_namespace or None,
        pod_monitors=found.pod_monitors == "Auto",
        pod_monitor_labels=found.pod_monitor_labels,
        image_pull_policy=found.image_pull_policy,
        window=found.window,
        scrape_interval=found.scrape_interval,
        measure_write_interval=found.status_interval,
        self_test_interval=found.self_test_interval,
    )
    host = environ.get("POD_NAME") or socket.gethostname()
    return Options(
        settings=settings,
        namespaces=tuple(sorted(set(found.namespace))),
        port=found.port,
        workers=found.workers,
        log_level=found.log_level.upper(),
        identity=f"{host}_{uuid.uuid4()}",
    )


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmcache-operator", description="Runs LLMCacheServices.")
    for flag, (variable, what) in IMAGES.items():
        parser.add_argument(flag, default=environ.get(variable), help=f"{what} (env {variable})")
    parser.add_argument(
        "--valkey-image",
        default=environ.get("LLMCACHE_VALKEY_IMAGE") or VALKEY_IMAGE,
        help="image with Valkey or Redis, for caches that ask for one (env LLMCACHE_VALKEY_IMAGE)",
    )
    parser.add_argument(
        "--image-pull-policy",
        default=environ.get("LLMCACHE_IMAGE_PULL_POLICY", "IfNotPresent"),
        choices=("Always", "IfNotPresent", "Never"),
        help="of all children (env LLMCACHE_IMAGE_PULL_POLICY)",
    )
    parser.add_argument(
        "--operator-namespace",
        default=environ.get("POD_NAMESPACE") or "llmcache-system",
        help="where this operator and its Lease live (env POD_NAMESPACE)",
    )
    parser.add_argument(
        "--scraper-namespace",
        default=environ.get("LLMCACHE_SCRAPER_NAMESPACE"),
        help="namespace of a Prometheus that may scrape the children (env LLMCACHE_SCRAPER_NAMESPACE)",
    )
    _add_pod_monitors(parser, environ)
    parser.add_argument(
        "--namespace", action="append", default=[], help="serve only this one; repeatable; default: all"
    )
    _add_intervals(parser)
    parser.add_argument("--port", type=int, default=8080, help="of /healthz, /readyz and /metrics")
    parser.add_argument("--workers", type=_at_least(1), default=4, help="services worked on at a time")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _add_intervals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--window", type=_at_least(30), default=300, help="seconds the hit rates look back")
    parser.add_argument("--scrape-interval", type=_at_least(1), default=15, help="seconds between scrapes")
    parser.add_argument(
        "--status-interval",
        type=_at_least(1),
        default=60,
        help="seconds between two writes of a status in which only measurements changed",
    )
    parser.add_argument(
        "--self-test-interval",
        type=_at_least(60),
        default=21600,
        help="seconds between self-tests of a service whose pods did not change, give or take a tenth",
    )


def _add_pod_monitors(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    parser.add_argument(
        "--pod-monitors",
        default=environ.get("LLMCACHE_POD_MONITORS", "Auto"),
        choices=("Auto", "Never"),
        help="Auto: one a component where the cluster has the kind (env LLMCACHE_POD_MONITORS)",
    )
    parser.add_argument(
        "--pod-monitor-labels",
        type=_labels,
        default=environ.get("LLMCACHE_POD_MONITOR_LABELS", ""),
        help="labels that your Prometheus selects PodMonitors by: NAME=VALUE,… (env LLMCACHE_POD_MONITOR_LABELS)",
    )


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    for name, equals, value in pairs:
        if not (equals and name.strip() and value.strip()):
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE,NAME=VALUE")
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)


def _at_least(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return integer
