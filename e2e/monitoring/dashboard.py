"""Makes deploy/monitoring/dashboard.json out of `panels`, with Grafana's own typed schema."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, StackingConfig, VizLegendOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from e2e.monitoring.panels import SECTIONS
from e2e.monitoring.shapes import Look, Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    AnyPanel = stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel

FILE = Path(__file__).parents[2] / "deploy/monitoring/dashboard.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
COLOURS = {"computed": "orange", "engine's own cache": "green", "LMCache server": "blue"}
_HEIGHTS = {Look.STAT: 4}
_HEIGHT = 8


def text() -> str:
    """Return the dashboard as JSON."""
    return json.dumps(_dashboard().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _dashboard() -> dashboard.Dashboard:
    board = (
        dashboard.Dashboard("LLMCacheService")
        .uid("llmcache-service")
        .description("Whether the KV cache of an LLMCacheService works, what it saves, and why not.")
        .tags(["llmcache"])
        .time("now-1h", "now")
        .refresh("30s")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("namespace", "Namespace", "label_values(llmcache_service_condition, namespace)"))
        .with_variable(
            _variable(
                "llmcs", "LLMCacheService", 'label_values(llmcache_service_condition{namespace="$namespace"}, llmcs)'
            )
        )
    )
    numbers = count(1)
    for section in SECTIONS:
        board.with_row(dashboard.Row(section.title).id(next(numbers)))
        for panel in section.panels:
            board.with_panel(_panel(panel).id(next(numbers)))
    return board


def _variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def _panel(panel: Panel) -> AnyPanel:
    made = _SHAPES[panel.look]().title(panel.title).description(panel.what).datasource(SOURCE)
    made.unit(panel.unit).span(panel.width).height(_HEIGHTS.get(panel.look, _HEIGHT))
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend).datasource(SOURCE)
        if panel.look is Look.TABLE:
            target.instant().format(PromQueryFormat.TABLE)
        made.with_target(target)
    return made


def _stat() -> stat.Panel:
    return stat.Panel().reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))


def _lines() -> timeseries.Panel:
    legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = timeseries.Panel().legend(legend.show_legend(True)).line_width(2).fill_opacity(8).min(0)
    for name, colour in COLOURS.items():
        panel.override_by_name(name, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def _stack() -> timeseries.Panel:
    return _lines().stacking(StackingConfig().mode(StackingMode.NORMAL).group("A")).fill_opacity(60)


def _states() -> statetimeline.Panel:
    states = {"1": ("True", "green"), "0": ("Unknown", "gray"), "-1": ("False", "red")}
    results = {
        value: ValueMappingResult(text=name, color=colour, index=index)
        for index, (value, (name, colour)) in enumerate(states.items())
    }
    panel = statetimeline.Panel().mappings([ValueMap(options=results)])
    steps = [Threshold(value=None, color="red"), Threshold(value=0, color="gray"), Threshold(value=1, color="green")]
    return panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))


_SHAPES: dict[Look, Callable[[], AnyPanel]] = {
    Look.STAT: _stat,
    Look.LINES: _lines,
    Look.STACK: _stack,
    Look.STATES: _states,
    Look.TABLE: table.Panel,
}
