"""report.json: the whole study as strict JSON (docs/report.md describes every key)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from search import report_facts as facts
from search import report_finals_json
from search.records import StudySummary, TrialRecord
from search.report_device import device_hours
from search.report_effects import LEVEL, effects
from search.report_front import unbeaten

SCHEMA_VERSION = 1


def document(
    summary: StudySummary,
    trials: Sequence[TrialRecord],
    importance: dict[str, float],
    refused: Sequence[TrialRecord] = (),
    concluded: bool = True,
) -> dict[str, Any]:
    """The content of report.json; trials by number, NaN and infinite values as None."""
    chosen = facts.best(trials)
    cost = device_hours(summary, trials)
    content = {
        "schema_version": SCHEMA_VERSION,
        "study": summary.name,
        "description": summary.description,
        "counts": facts.counts(trials),
        "best": None if chosen is None else _trial(chosen),
        "finals": None if summary.finals is None else report_finals_json.document(summary, summary.finals),
        "trials": [_trial(trial) for trial in sorted(trials, key=lambda trial: trial.number)],
        "infeasible": [
            {"number": trial.number, "params": trial.params, "reason": trial.reason, "limits": list(trial.exceeded)}
            for trial in refused
        ],
        "pareto": [trial.number for trial in unbeaten(summary, trials)],
        "importance": importance,
        "effects": [{**asdict(effect), "level": LEVEL} for effect in effects(summary, trials)],
        "data": summary.data,
        "space": summary.space,
        "settings": settings(summary),
        "elapsed_seconds": summary.elapsed_seconds,
        "cost": None if cost is None else {**asdict(cost), "total": cost.total},
        "stopped": summary.stopped,
        "concluded": concluded,
        "hardware": summary.hardware,
        "versions": summary.versions,
    }
    return {key: _finite(value) for key, value in content.items()}


def settings(summary: StudySummary) -> dict[str, Any]:
    """How the study searches."""
    return {
        "epochs": summary.epochs,
        "first_rung": summary.first_rung,
        "trials": summary.trials,
        "sampler": summary.sampler,
        "scheduler": summary.scheduler,
        "seed": summary.seed,
        "objectives": [objective.value for objective in summary.objectives],
        "limits": summary.limits,
    }


def text(content: dict[str, Any]) -> str:
    """Strict JSON of `document`.

    Raises:
        TypeError: a value is no JSON type.
    """
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _trial(trial: TrialRecord) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.value,
        "params": trial.params,
        "epochs": trial.epochs,
        "val_error": trial.val_error,
        "best_val_error": facts.lowest(trial),
        "params_count": trial.params_count,
        "macs": trial.macs,
        "seconds": trial.seconds,
        "images_per_s": trial.images_per_s,
        "reason": trial.reason,
        "mlflow_run_id": trial.mlflow_run_id,
        "curve": [[epoch, trial.curve[epoch]] for epoch in sorted(trial.curve)],
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null, however deep."""
    match value:
        case float():
            return value if isfinite(value) else None
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case _:
            return value
