"""The report of a study, written as report.json, report.md and report.html."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from search.records import Finals, SeedRun, StudySummary, TrialRecord
from search.report import pages
from search.report.analysis import Analysis
from search.report.answer import missing_finals
from search.report.effects import LEVEL
from search.report.finals import Standing, flattery
from search.spec import Found
from search.statistics import median_interval, test_set_error
from search.storage import files

FILES = "report.json", "report.md", "report.html"
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Report:
    """Where the files lie, the answer in Markdown, and the numbers of the trials on the Pareto front."""

    json: Path
    markdown: Path
    html: Path
    answer: str
    front: tuple[int, ...]  # empty where the study has one objective alone

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for a notebook."""
        page = html.escape(self.html.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 80vh; border: 0"></iframe>'


def short_answer(summary: StudySummary, records: Sequence[TrialRecord]) -> str:
    """Markdown: what a terminal and an MLflow note show of a study with these records."""
    return pages.short_answer(Analysis.of(summary, records))


def is_of(folder: Path, summary: StudySummary) -> bool:
    """Whether `folder` holds a report with which this study, as it is now, has ended."""
    places = [folder / name for name in FILES]
    if not all(file.exists() for file in places):
        return False
    content = files.json_object(places[0])
    now = {
        "study": summary.name,
        "description": summary.description,
        "space": summary.space,
        "settings": settings(summary),
        "concluded": True,
    }
    return now == {key: content.get(key) for key in now}


def write(
    folder: Path,
    summary: StudySummary,
    records: Sequence[TrialRecord],
    importance: Mapping[str, float],
    concluded: bool = True,
) -> Report:
    """Writes the files into `folder`, each whole or not at all; older ones are replaced.

    Args:
        folder: of the study.
        summary: of the study.
        records: its trials; may hold proposals that were beyond the limits: no trials, and only counted.
        importance: what `search.optimize.importance` returns; {} leaves that part out.
        concluded: whether a start of the study ends with this report, and tells MLflow of it.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    of = Analysis.of(summary, records, importance)
    parts = pages.sections(of)
    places = [folder / name for name in FILES]
    files.replace(places[0], text(document(of, concluded)).encode())
    files.replace(places[1], pages.markdown(of, parts).encode())
    files.replace(places[2], pages.page(of, parts).encode())
    front = tuple(trial.number for trial in of.front)
    return Report(places[0], places[1], places[2], pages.short_answer(of), front)


def document(of: Analysis, concluded: bool = True) -> dict[str, Any]:
    """The content of report.json; trials by number, NaN and infinite values as None."""
    summary = of.summary
    content = {
        "schema_version": SCHEMA_VERSION,
        "study": summary.name,
        "description": summary.description,
        "answer": of.answer.sentence,
        "caveats": of.answer.caveats,
        "counts": of.trials.counts(),
        "best": None if of.best is None else _trial(of.best),
        "finals": None if summary.finals is None else _finals(of, summary.finals),
        "trials": [_trial(trial) for trial in of.trials],
        "infeasible": [
            {"number": trial.number, "params": trial.params, "reason": trial.reason, "limits": trial.exceeded}
            for trial in of.refused
        ],
        "pareto": [trial.number for trial in of.front],
        "importance": of.importance,
        "effects": [{**asdict(effect), "level": LEVEL} for effect in of.effects],
        "settings": settings(summary),
        "cost": None if of.cost is None else {**asdict(of.cost), "total": of.cost.total},
        "concluded": concluded,
    }
    same = ("data", "space", "elapsed_seconds", "stopped", "hardware", "versions")
    return _finite(content | {key: getattr(summary, key) for key in same})


def settings(summary: StudySummary) -> dict[str, Any]:
    """How the study searches."""
    same = ("epochs", "first_rung", "trials", "sampler", "scheduler", "seed", "limits")
    objectives = [objective.value for objective in summary.objectives]
    return {key: getattr(summary, key) for key in same} | {"objectives": objectives}


def _trial(trial: TrialRecord) -> dict[str, Any]:
    same = ("number", "state", "params", "epochs", "val_error", "params_count", "macs", "seconds", "images_per_s")
    found = {key: getattr(trial, key) for key in (*same, "reason", "mlflow_run_id")}
    return found | {"best_val_error": trial.lowest, "curve": sorted(trial.curve.items())}


def _finals(of: Analysis, finals: Finals) -> dict[str, Any]:
    """Every finalist with its statistics and trainings, the best first, and what they say together."""
    same = ("complete", "compared", "epochs", "seeds", "level", "trained_on", "tested_on", "scale_name", "champion_run")
    return {key: getattr(finals, key) for key in same} | {
        "missing": missing_finals(of),
        "max_seeds": finals.most_seeds,
        "scale": _pairs(finals.scale),
        "champion": finals.champion_number,
        "verdict": _verdict(of, finals),
        "flattery": flattery(of.standings),
        "finalists": [_finalist(of, finals, standing) for standing in of.standings],
    }


def _pairs(differences: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    return {path: {"published": paper, "run": here} for path, (paper, here) in differences.items()}


def _verdict(of: Analysis, finals: Finals) -> dict[str, Any] | None:
    verdict = of.verdict
    if verdict is None:
        return None
    return {
        "next": None if verdict.next is None else verdict.next.finalist.number,
        "separated": verdict.next is not None and not verdict.close,
        "close": [standing.finalist.number for standing in verdict.close],
        "probability": verdict.probability,
        "seeds_needed": verdict.needed,
        "test_set_error": test_set_error(of.standings[0].mean or 0.0, finals.tested_on),
    }


def _finalist(of: Analysis, finals: Finals, standing: Standing) -> dict[str, Any]:
    one, errors = standing.finalist, standing.errors
    middle, compared = median_interval(errors, finals.level), of.comparisons.get(one.number)
    same = ("number", "label", "params", "params_count", "macs", "mlflow_run_id")
    return {key: getattr(one, key) for key in same} | {
        "rank": standing.rank,
        "published": [_published(found) for found in of.published[one.number]],
        "comparison": None if compared is None else asdict(compared),
        "tested": len(errors),
        "mean": standing.mean,
        "std": standing.deviation,
        "interval": None if standing.interval is None else asdict(standing.interval),
        "median": standing.median,
        "median_interval": None if middle is None else asdict(middle),
        "min": min(errors, default=None),
        "max": max(errors, default=None),
        "probability_lower": standing.lower,
        "difference": None if standing.against is None else asdict(standing.against),
        "seconds": standing.seconds,
        "runs": [_run(run) for run in one.runs],
    }


def _run(run: SeedRun) -> dict[str, Any]:
    return {**asdict(run), "train_curve": sorted(run.train_curve.items())}


def _published(found: Found) -> dict[str, Any]:
    same = ("key", "error", "statistic", "source")
    figure = {key: getattr(found.figure, key) for key in same}
    return figure | {"shown": str(found.figure), "differences": _pairs(found.differences)}


def text(content: dict[str, Any]) -> str:
    """Strict JSON of `document`.

    Raises:
        TypeError: a value is no JSON type.
    """
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null, however deep."""
    match value:
        case float():
            return value if isfinite(value) else None
        case Mapping():
            return {key: _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case _:
            return value
