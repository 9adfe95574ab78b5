"""How MLflow's pages show a study at first: its trials, and the trainings of its finalists grouped by configuration.

MLflow keeps a shared view as a tag of the experiment; the page takes it from there when its address names the view.
"""

import json
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

from resnet.spec import needs
from search.spec import TrialSpec

KEY = "mlflow.sharedViewState."
SEEDS = "-seeds"
ALWAYS = ("net.depth", "net.version", "net.shortcut")
GROUPS = ("shortcut", "version")  # fields of the network by which trials are grouped
ERROR, TESTED = "val/error", "test/error_mean"
LAST = "report/val_error"  # the metric that is a trial's error, rounded
ORDER = "search.order"  # the tag by whose text trials stand as in the report
LOG = "log10 "  # begins the names of parameters that are another's logarithm: parallel coordinates have no log axes
FINALIST = "search.finalist"
_LOG_SPAN = re.compile(r"space\.(\w+\.\w+)\.log")
_SHOWN = 100  # runs in a chart
_MAY_BE_WITHOUT_EFFECT = {"train.crop_padding": "train.crop"}  # field -> on which it depends; the network's: `needs`


def views(study_run: str, study_key: str, params: Mapping[str, str]) -> dict[str, str]:
    """The experiment's tags that hold a study's views: that of its trials is named by the id of its run, others by the
    id and `SEEDS`, or - and one of `GROUPS`. What the tags `search.key` of its runs begin with is `study_key`."""
    searched = {".".join(path.split(".")[1:3]) for path in params if path.startswith("space.")}
    axes = [*ALWAYS, *sorted(searched - set(ALWAYS))]
    trials = _trials(study_run, axes, searched, on_log(params))
    found = {"": trials, SEEDS: _seeds(study_key)}
    found |= {f"-{field}": trials | _grouped(field, bool(searched)) for field in GROUPS}
    return {f"{KEY}{study_run}{name}": json.dumps(view) for name, view in found.items()}


def on_log(params: Mapping[str, Any]) -> list[str]:
    """Of a study's flat parameters the fields that are searched on a logarithmic scale."""
    spans = (_LOG_SPAN.fullmatch(path) for path, value in params.items() if str(value) == "True")
    return [span[1] for span in spans if span]


def _trials(study_run: str, axes: list[str], searched: Set[str], logs: Sequence[str]) -> dict[str, Any]:
    some = [path for path in axes if _only_some_have(path, searched)]
    columns = [f"metrics.`{TESTED}`", *(f"params.`{path}`" for path in axes), "tags.`search.state`"]
    order, error = f"metrics.`{TESTED}`", TESTED  # where nothing is searched, nothing is validated
    if searched:
        order, error = f"tags.`{ORDER}`", ERROR
        columns.append(f"metrics.`{LAST}`")  # with more, 1440 pixels would not show depth, shortcut and version
    every = [f"{LOG}{path}" if path in logs else path for path in axes if path not in some]
    parallel = _chart("PARALLEL", "parallel") | {"selectedParams": every, "selectedMetrics": [error]}
    charts = [parallel | {"showAllRuns": True}, _curves(error), *(_scatter(path, error) for path in some)]
    return _view(charts) | {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{study_run}'",
        "orderByKey": order,  # sorted by anything but time, trials are not folded away below their study
        "selectedColumns": columns,
    }


def _seeds(study_key: str) -> dict[str, Any]:
    columns = ("tags.`search.seed`", "tags.`search.state`", "metrics.`test/error`", "metrics.`train/error`")
    by = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": FINALIST}]}
    bars = _chart("BAR", "test") | {"metricKey": "test/error"}
    return _view([bars, _curves("train/error", "linear")]) | {  # which is 0 at times
        "searchFilter": f"tags.`search.kind` = 'seed' AND tags.`search.key` LIKE '{study_key}/%'",
        "orderByKey": "metrics.`test/error`",
        "selectedColumns": columns,
        "groupBy": by,
        "useGroupedValuesInCharts": True,
    }


def _grouped(field: str, searched: bool) -> dict[str, Any]:
    """Of the trials with each value of a field, the least error, and the least by epoch."""
    least, error = ("best/val_error", ERROR) if searched else (TESTED, TESTED)
    charts = [_chart("BAR", "least") | {"metricKey": least}, _curves(error)]
    by = {"aggregateFunction": "min", "groupByKeys": [{"mode": "param", "groupByData": f"net.{field}"}]}
    return {"compareRunCharts": charts, "groupBy": by, "useGroupedValuesInCharts": True}


def _only_some_have(path: str, searched: Set[str]) -> bool:
    """Whether a field is a number in some trials, and `n/a` in others.

    Of an axis with both, MLflow's parallel coordinates draw only the runs with the more frequent kind.
    """
    section, _, field = path.partition(".")
    need = needs(field) if section == "net" else None
    other = f"net.{need[0]}" if need else _MAY_BE_WITHOUT_EFFECT.get(path)
    return other in searched and TrialSpec.types()[path] in (int, float)


def _view(charts: list[dict[str, Any]]) -> dict[str, Any]:
    section = {"uuid": "comparison", "name": "comparison", "columns": 1, "cardHeight": 420, "display": True}
    return {
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,  # else MLflow sorts sections by name
        "compareRunCharts": charts,
        "compareRunSections": [section | {"isReordered": True, "deleted": False, "isGenerated": False}],
    }


def _curves(metric: str, scale: str = "log") -> dict[str, Any]:
    scales = {"scaleType": scale, "xAxisKey": "step", "xAxisScaleType": "linear", "selectedXAxisMetricKey": ""}
    metrics = {"metricKey": metric, "selectedMetricKeys": [metric], "selectedYAxisMetricKey": metric}
    shown = {"yAxisKey": "metric", "lineSmoothness": 0, "useGlobalXaxisKey": True}
    return _chart("LINE", "curves") | scales | metrics | shown


def _scatter(path: str, metric: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": path, "type": "PARAM"}, "yaxis": {"key": metric, "type": "METRIC"}}
    return _chart("SCATTER", path) | axes | {"showAllRuns": True}


def _chart(kind: str, name: str) -> dict[str, Any]:
    base = {"type": kind, "uuid": f"search-{name}", "metricSectionId": "comparison", "runsCountToCompare": _SHOWN}
    return base | {"deleted": False, "isGenerated": False}
