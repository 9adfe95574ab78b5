"""The answer of a study, written as report.json, report.md, report.html and PNG files."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from search.records import Finals, SeedRun, StudySummary, TrialRecord, Trials
from search.report import answer, figures, figures_finals, pages, png
from search.report.effects import LEVEL, Contrast, contrasts, effect_paths, effects
from search.report.figures import Figure, parallel
from search.report.finals import Standing, Verdict, champion, flattery, missing, standings, verdict_of
from search.report.published import of_finalist
from search.report.wording import device_hours, unbeaten
from search.spec import Found
from search.statistics import median_interval, test_set_error
from search.storage import files


def all_figures(
    summary: StudySummary, trials: Sequence[TrialRecord], importance: dict[str, float]
) -> dict[str, Figure]:
    """Name -> figure, in the page's order; a figure without anything to show is left out."""
    finals = summary.finals
    made: dict[str, Figure | None] = {}
    if finals is not None:
        made["finals-errors"] = figures_finals.errors(summary, finals)
        made["finals-curves"] = figures_finals.curves(finals)
        made["finals-contrasts"] = figures_finals.points(finals, contrasts(finals))
    made["curves"] = figures.curves(summary, trials)
    made["parallel"] = parallel(summary, trials)
    made["effects"] = figures_finals.ratios(effects(summary, trials))
    for path in effect_paths(summary, trials):
        made[f"effect-{path}"] = figures_finals.effect(summary, trials, path)
    made["importance"] = figures.importances(importance)
    for objective in figures.objectives(summary):
        made[f"cost-{objective}"] = figures.cost(summary, trials, objective)
    return {name: figure for name, figure in made.items() if figure is not None}


def pictures(made: Mapping[str, Figure]) -> dict[str, list[Figure]]:
    """Name of a PNG file -> its figures: those of the page that say the most without a pointer."""
    named = {
        "finalists": ["finals-errors"],
        "learning-curves": ["finals-curves", "curves"],
        "effects": ["finals-contrasts", "effects", "importance"],
        "front": [name for name in made if name.startswith("cost-")],
    }
    return {file: found for file, names in named.items() if (found := [made[n] for n in names if n in made])}


def finals_document(summary: StudySummary, finals: Finals) -> dict[str, Any]:
    """Every finalist with its statistics and trainings, the best first, and what they say together."""
    order = standings(finals)
    best = champion(order, finals)
    return {
        "complete": finals.complete,
        "missing": missing(summary),
        "compared": finals.compared,
        "epochs": finals.epochs,
        "seeds": finals.seeds,
        "max_seeds": finals.most_seeds,
        "level": finals.level,
        "trained_on": finals.trained_on,
        "tested_on": finals.tested_on,
        "scale": {path: {"published": published, "run": run} for path, (published, run) in finals.scale.items()},
        "scale_name": finals.scale_name,
        "champion": finals.champion_number,
        "champion_run": finals.champion_run,
        "verdict": None if best is None else _verdict(best, verdict_of(order, finals), finals),
        "flattery": flattery(order),
        "finalists": [_finalist(summary, finals, standing) for standing in order],
        "contrasts": [_contrast(contrast) for contrast in contrasts(finals)],
    }


def _verdict(best: Standing, verdict: Verdict, finals: Finals) -> dict[str, Any]:
    return {
        "next": None if verdict.next is None else verdict.next.finalist.number,
        "separated": verdict.next is not None and not verdict.close,
        "close": [standing.finalist.number for standing in verdict.close],
        "probability": verdict.probability,
        "seeds_needed": verdict.needed,
        "test_set_error": test_set_error(best.mean or 0.0, finals.tested_on),
    }


def _finalist(summary: StudySummary, finals: Finals, standing: Standing) -> dict[str, Any]:
    finalist, errors = standing.finalist, standing.errors
    around = median_interval(errors, finals.level)
    return {
        "number": finalist.number,
        "label": finalist.label,
        "rank": standing.rank,
        "params": finalist.params,
        "params_count": finalist.params_count,
        "macs": finalist.macs,
        "mlflow_run_id": finalist.mlflow_run_id,
        "published": [_published(found) for found in of_finalist(summary, finals, finalist)],
        "tested": len(errors),
        "mean": standing.mean,
        "std": standing.deviation,
        "interval": None if standing.interval is None else asdict(standing.interval),
        "median": standing.median,
        "median_interval": None if around is None else asdict(around),
        "min": min(errors, default=None),
        "max": max(errors, default=None),
        "probability_lower": standing.lower,
        "difference": None if standing.against is None else asdict(standing.against),
        "seconds": standing.seconds,
        "runs": [_run(run) for run in finalist.runs],
    }


def _run(run: SeedRun) -> dict[str, Any]:
    return {
        "number": run.number,
        "seed": run.seed,
        "state": run.state.value,
        "epochs": run.epochs,
        "test_error": run.test_error,
        "test_loss": run.test_loss,
        "seconds": run.seconds,
        "reason": run.reason,
        "mlflow_run_id": run.mlflow_run_id,
        "train_curve": [[epoch, run.train_curve[epoch]] for epoch in sorted(run.train_curve)],
    }


def _published(found: Found) -> dict[str, Any]:
    return {
        "key": found.figure.key,
        "error": found.figure.error,
        "shown": str(found.figure),
        "statistic": found.figure.statistic,
        "source": found.figure.source,
        "differences": {path: {"published": paper, "run": here} for path, (paper, here) in found.differences.items()},
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "path": contrast.path,
        "number": contrast.one.number,
        "against": contrast.other.number,
        "value": contrast.value,
        "reference": contrast.reference,
        "seeds": list(contrast.seeds),
        **asdict(contrast.difference),
    }


SCHEMA_VERSION = 1


def document(
    summary: StudySummary,
    trials: Sequence[TrialRecord],
    importance: dict[str, float],
    refused: Sequence[TrialRecord] = (),
    concluded: bool = True,
) -> dict[str, Any]:
    """The content of report.json; trials by number, NaN and infinite values as None."""
    chosen = Trials(trials).best
    cost = device_hours(summary, trials)
    content = {
        "schema_version": SCHEMA_VERSION,
        "study": summary.name,
        "description": summary.description,
        "counts": Trials(trials).counts(),
        "best": None if chosen is None else _trial(chosen),
        "finals": None if summary.finals is None else finals_document(summary, summary.finals),
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
        "best_val_error": trial.lowest,
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


FILES = "report.json", "report.md", "report.html"


@dataclass(frozen=True)
class Report:
    """Where the files lie, the answer in Markdown, and the numbers of the trials on the Pareto front."""

    json: Path
    markdown: Path
    html: Path
    images: tuple[Path, ...]  # PNG
    answer: str
    front: tuple[int, ...]  # empty where the study has one objective alone

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for a notebook."""
        page = html.escape(self.html.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 80vh; border: 0"></iframe>'


def short_answer(summary: StudySummary, records: Sequence[TrialRecord]) -> str:
    """Markdown: what a terminal and an MLflow note show of a study with these records."""
    return answer.answer_markdown(summary, Trials(records).started)


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
    importance: dict[str, float],
    concluded: bool = True,
) -> Report:
    """Writes the files into `folder`, each whole or not at all; older ones are replaced.

    Args:
        folder: of the study.
        summary: of the study.
        records: its trials; may hold proposals that were beyond the limits: no trials, and only counted.
        importance: what `search.optimize.importances` returns; {} leaves that part out.
        concluded: whether a start of the study ends with this report, and tells MLflow of it.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    trials, refused = Trials(records).started, Trials(records).refused
    figures = all_figures(summary, trials, importance)
    content = document(summary, trials, importance, refused, concluded)
    told = answer.answer_markdown(summary, trials)
    front = tuple(trial.number for trial in unbeaten(summary, trials))
    places = [folder / name for name in FILES]
    files.replace(places[0], text(content).encode())
    files.replace(places[1], pages.markdown(summary, trials, importance, refused).encode())
    files.replace(places[2], pages.page(summary, trials, figures, importance, refused).encode())
    images = png.write(folder, pictures(figures), summary.name)
    return Report(places[0], places[1], places[2], images, told, front)
