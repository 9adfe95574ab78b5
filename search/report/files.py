"""The report of a study, written as report.json, report.md and report.html."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from search.records import Finals, StudySummary, TrialRecord
from search.report import pages
from search.report.analysis import Analysis
from search.report.answer import missing_finals
from search.report.effects import LEVEL
from search.report.finals import Standing, flattery
from search.spec import Found
from search.statistics import median_interval
from search.storage import files
from search.training import Predictions

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
    content = files.json_object(places[0])
    now = {**_asked(summary), "concluded": True}
    return all(file.exists() for file in places) and now == {key: content.get(key) for key in now}


def write(
    folder: Path,
    summary: StudySummary,
    records: Sequence[TrialRecord],
    importance: Mapping[str, float],
    concluded: bool = True,
    predictions: Predictions | None = None,
) -> Report:
    """Writes the files into `folder`, each whole or not at all; older ones are replaced.

    Args:
        folder: of the study.
        summary: of the study.
        records: its trials; may hold proposals that were beyond the limits: no trials, and only counted.
        importance: what `search.optimize.importance` returns; {} leaves that part out.
        concluded: whether a start of the study ends with this report, and tells MLflow of it.
        predictions: of the exported network, on the test images; None where there are none.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    of = Analysis.of(summary, records, importance, predictions)
    parts = pages.sections(of)
    content = to_json({**_document(of), "concluded": concluded}, indent=1, inf_nan_mode="null") + b"\n"
    texts = content, pages.markdown(of, parts).encode(), pages.page(of, parts).encode()
    places = [folder / name for name in FILES]
    for place, text in zip(places, texts, strict=True):
        files.replace(place, text)
    front = tuple(trial.number for trial in of.front)
    return Report(places[0], places[1], places[2], pages.short_answer(of), front)


def _asked(summary: StudySummary) -> dict[str, Any]:
    """What the study is, and how it searches."""
    same = ("epochs", "first_rung", "trials", "sampler", "scheduler", "seed", "limits")
    objectives = [objective.value for objective in summary.objectives]
    return {
        "study": summary.name,
        "description": summary.description,
        "space": summary.space,
        "settings": {**_of(summary, *same), "objectives": objectives},
    }


def _document(of: Analysis) -> dict[str, Any]:
    """The content of report.json, which assets/report.schema.json describes; trials by number."""
    return {
        "schema_version": SCHEMA_VERSION,
        **_asked(of.summary),
        "answer": of.answer.sentence,
        "caveats": of.answer.caveats,
        "counts": of.trials.counts(),
        "best": None if of.best is None else _trial(of, of.best),
        "finals": None if of.summary.finals is None else _finals(of, of.summary.finals),
        "classes": _classes(of) if of.classes else None,
        "trials": [_trial(of, trial) for trial in of.trials],
        "infeasible": [{**_of(t, "number", "params", "reason"), "limits": t.exceeded} for t in of.refused],
        "pareto": [trial.number for trial in of.front],
        "importance": of.importance,
        "effects": [{**asdict(effect), "level": LEVEL} for effect in of.effects],
        "expected_gain": of.summary.gain,
        "spent": asdict(of.summary.spent),
        "latency": of.summary.latency or None,
        "cost": None if of.cost is None else {**asdict(of.cost), "total": of.cost.total},
        **_of(of.summary, "data", "elapsed_seconds", "stopped", "hardware", "versions"),
    }


def _of(thing: object, *names: str) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names}


def _trial(of: Analysis, trial: TrialRecord) -> dict[str, Any]:
    same = (
        "number",
        "state",
        "params",
        "epochs",
        "val_error",
        "params_count",
        "macs",
        "seconds",
        "images_per_s",
        "latency_ms",
    )
    found = _of(trial, *same, "reason", "mlflow_run_id")
    start = of.starts.get(trial.number)
    return found | {"start": start, "best_val_error": trial.lowest, "curve": sorted(trial.curve.items())}


def _finals(of: Analysis, finals: Finals) -> dict[str, Any]:
    """Every finalist with its statistics and trainings, the best first, and what they say together."""
    same = ("complete", "compared", "epochs", "seeds", "level", "trained_on", "tested_on", "scale_name", "champion_run")
    return _of(finals, *same) | {
        "missing": missing_finals(of),
        "max_seeds": finals.most_seeds,
        "scale": _pairs(finals.scale),
        "champion": finals.champion_number,
        "verdict": _verdict(of, finals),
        "flattery": flattery(of.standings),
        "finalists": [_finalist(of, finals, standing) for standing in of.standings],
    }


def _classes(of: Analysis) -> dict[str, Any]:
    """The answers of the exported network to the test images, by class."""
    mean, between = of.balanced
    images, wrong = (sum(getattr(one, count) for one in of.classes) for count in ("images", "wrong"))
    return {
        "images": images,
        "wrong": wrong,
        "error": 100 * wrong / images,
        "balanced_error": mean,
        "balanced_interval": between,
        "classes": [_of(one, "name", "images", "wrong", "error", "interval", "given") for one in of.classes],
        "mistakes": of.mistakes,
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
        "test_set_error": of.test_set_error,
    }


def _finalist(of: Analysis, finals: Finals, standing: Standing) -> dict[str, Any]:
    one, errors = standing.finalist, standing.errors
    found = _of(one, "number", "label", "params", "params_count", "macs", "latency_ms", "mlflow_run_id")
    return found | {
        **_of(standing, "rank", "mean", "interval", "median", "seconds"),
        "published": [_published(figure) for figure in of.published[one.number]],
        "comparison": of.comparisons.get(one.number),
        "tested": len(errors),
        "std": standing.deviation,
        "median_interval": median_interval(errors, finals.level),
        "min": min(errors, default=None),
        "max": max(errors, default=None),
        "probability_lower": standing.lower,
        "difference": standing.against,
        "runs": [{**asdict(run), "train_curve": sorted(run.train_curve.items())} for run in one.runs],
    }


def _published(found: Found) -> dict[str, Any]:
    figure = _of(found.figure, "key", "error", "statistic", "source")
    return figure | {"shown": str(found.figure), "differences": _pairs(found.differences)}
