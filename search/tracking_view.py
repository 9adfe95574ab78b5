"""How MLflow's page shows a study at first: its trials with the searched columns, and the charts that compare them.

MLflow keeps a shared view as a tag of the experiment; the page takes it from there when its address names the view.
"""

import json
from collections.abc import Mapping
from typing import Any

KEY = "mlflow.sharedViewState."
ALWAYS = ("net.depth", "net.version", "net.shortcut")
ERROR = "val/error"
_SECTION = "comparison"
_SHOWN = 100  # trials in a chart


def filter_of(study: str) -> str:
    """The search that finds a study's trials."""
    return f"tags.`search.kind` = 'trial' AND tags.`search.study` = '{study}'"


def view(study: str, params: Mapping[str, str]) -> tuple[str, str]:
    """Name and value of the experiment's tag that holds a study's view. `params` are the study's own, flattened."""
    searched = {".".join(path.split(".")[1:3]) for path in params if path.startswith("space.")}
    axes = [*ALWAYS, *sorted(searched - set(ALWAYS))]
    columns = [*(f"params.`{path}`" for path in axes), f"metrics.`{ERROR}`", "metrics.`best/val_error`"]
    section = {"uuid": _SECTION, "name": _SECTION, "columns": 1, "cardHeight": 420, "display": True}
    state = {
        "searchFilter": filter_of(study),
        "orderByKey": "metrics.`best/val_error`",  # sorted by a metric, trials are not folded away below their study
        "orderByAsc": True,
        "selectedColumns": [*columns, "metrics.`cost/params`", "metrics.`cost/macs`"],
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,  # else MLflow sorts sections by name
        "compareRunCharts": [_parallel(axes), _curves()],
        "compareRunSections": [section | {"isReordered": True, "deleted": False, "isGenerated": False}],
    }
    return f"{KEY}{study}", json.dumps(state)


def _parallel(axes: list[str]) -> dict[str, Any]:
    return _chart("PARALLEL") | {"selectedParams": axes, "selectedMetrics": [ERROR], "showAllRuns": True}


def _curves() -> dict[str, Any]:
    scales = {"scaleType": "linear", "xAxisKey": "step", "xAxisScaleType": "linear", "selectedXAxisMetricKey": ""}
    metrics = {"metricKey": ERROR, "selectedMetricKeys": [ERROR], "selectedYAxisMetricKey": ERROR, "yAxisKey": "metric"}
    return _chart("LINE") | scales | metrics | {"lineSmoothness": 0, "useGlobalXaxisKey": True}


def _chart(kind: str) -> dict[str, Any]:
    base = {"type": kind, "uuid": f"search-{kind.lower()}", "metricSectionId": _SECTION, "runsCountToCompare": _SHOWN}
    return base | {"deleted": False, "isGenerated": False}
