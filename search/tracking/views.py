"""How MLflow's pages show a study at first: its trials, and the trainings of its finalists grouped by configuration.

MLflow keeps a shared view as a tag of the experiment; the page takes it from there when its address names the view.
"""

import json
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

from resnet.spec import needs
from search.spec import Objective, TrialSpec

KEY = "mlflow.sharedViewState."
SEEDS = "-seeds"
ALWAYS = ("net.depth", "net.version", "net.shortcut")
GROUPS = ("shortcut", "version")  # fields of the network by which trials are grouped
LAST, LEAST = "report/", "best/"  # begin the names of metrics: a trial's error, rounded, and its least, by objective
ORDER = "search.order"  # the tag by whose text trials stand as in the report
LOG = "log10 "  # begins the names of parameters that are another's logarithm: parallel coordinates have no log axes
FINALIST = "search.finalist"
_LOG_SPAN = re.compile(r"space\.(\w+\.\w+)\.log")
_SHOWN = 100  # runs in a chart
_MAY_BE_WITHOUT_EFFECT = {"train.crop_padding": "train.crop"}  # field -> on which it depends; the network's: `needs`


def views(study_run: str, study_key: str, params: Mapping[str, str]) -> dict[str, str]:
    """The experiment's tags that hold a study's views: that of its trials is named by the id of its run, others by the
    id and `SEEDS`, or - and one of `GROUPS`. What the tags `search.key` of its runs begin with is `study_key`."""
    error = sought_in(params)
    searched = {".".join(path.split(".")[1:3]) for path in params if path.startswith("space.")}
    axes = [*ALWAYS, *sorted(searched - set(ALWAYS))]
    trials = _trials(study_run, axes, searched, on_log(params), error)
    found = {"": trials, SEEDS: _seeds(study_key, error)}
    found |= {f"-{field}": trials | _grouped(field, bool(searched), error) for field in GROUPS}
    return {f"{KEY}{study_run}{name}": json.dumps(view) for name, view in found.items()}


def sought_in(params: Mapping[str, Any]) -> Objective:
    """Of a study's flat parameters the error that is sought; the usual one of a run that has none yet."""
    objectives = str(params.get("search.objectives"))
    return Objective.VAL_BALANCED_ERROR if Objective.VAL_BALANCED_ERROR in objectives else Objective.VAL_ERROR


def tested(sought: Objective) -> str:
    """The metric of a finalist: the mean over its trainings."""
    return f"test/{sought.measure}_mean"


def on_log(params: Mapping[str, Any]) -> list[str]:
    """Of a study's flat parameters the fields that are searched on a logarithmic scale."""
    spans = (_LOG_SPAN.fullmatch(path) for path, value in params.items() if str(value) == "True")
    return [span[1] for span in spans if span]


def _trials(
    study_run: str, axes: list[str], searched: Set[str], logs: Sequence[str], sought: Objective
) -> dict[str, Any]:
    mean = tested(sought)
    some = [path for path in axes if _only_some_have(path, searched)]
    columns = [f"metrics.`{mean}`", *(f"params.`{path}`" for path in axes), "tags.`search.state`"]
    order, error = f"metrics.`{mean}`", mean  # where nothing is searched, nothing is validated
    if searched:
        order, error = f"tags.`{ORDER}`", f"val/{sought.measure}"
        columns.append(f"metrics.`{LAST}{sought}`")  # with more, 1440 pixels would not show depth, shortcut and version
    every = [f"{LOG}{path}" if path in logs else path for path in axes if path not in some]
    parallel = _chart("PARALLEL", "parallel") | {"selectedParams": every, "selectedMetrics": [error]}
    charts = [parallel | {"showAllRuns": True}, _curves(error), *(_scatter(path, error) for path in some)]
    return _view(charts) | {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{study_run}'",
        "orderByKey": order,  # sorted by anything but time, trials are not folded away below their study
        "selectedColumns": columns,
    }


def _seeds(study_key: str, sought: Objective) -> dict[str, Any]:
    error = f"test/{sought.measure}"
    columns = ("tags.`search.seed`", "tags.`search.state`", f"metrics.`{error}`", "metrics.`train/error`")
    by = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": FINALIST}]}
    bars = _chart("BAR", "test") | {"metricKey": error}
    return _view([bars, _curves("train/error", "linear")]) | {  # which is 0 at times
        "searchFilter": f"tags.`search.kind` = 'seed' AND tags.`search.key` LIKE '{study_key}/%'",
        "orderByKey": f"metrics.`{error}`",
        "selectedColumns": columns,
        "groupBy": by,
        "useGroupedValuesInCharts": True,
    }


def _grouped(field: str, searched: bool, sought: Objective) -> dict[str, Any]:
    """Of the trials with each value of a field, the least error, and the least by epoch."""
    mean = tested(sought)
    least, error = (f"{LEAST}{sought}", f"val/{sought.measure}") if searched else (mean, mean)
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
