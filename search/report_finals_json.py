"""The finals in report.json."""

from dataclasses import asdict
from typing import Any

from search import report_finals as finals_of
from search.published import Found
from search.records import Finals, SeedRun, StudySummary
from search.report_contrasts import Contrast, contrasts
from search.report_finals import Standing
from search.report_published import of_finalist
from search.statistics import median_interval, test_set_error


def document(summary: StudySummary, finals: Finals) -> dict[str, Any]:
    """Every finalist with its statistics and trainings, the best first, and what they say together."""
    order = finals_of.standings(finals)
    best = finals_of.champion(order, finals)
    return {
        "complete": finals.complete,
        "missing": finals_of.missing(summary),
        "compared": finals.compared,
        "epochs": finals.epochs,
        "seeds": finals.seeds,
        "max_seeds": finals.most_seeds,
        "level": finals.level,
        "trained_on": finals.trained_on,
        "tested_on": finals.tested_on,
        "scale": {path: {"published": published, "run": run} for path, (published, run) in finals.scale.items()},
        "scale_name": finals.scale_name,
        "champion": finals.champion,
        "champion_run": finals.champion_run,
        "verdict": None if best is None else _verdict(best, finals_of.verdict(order, finals), finals),
        "flattery": finals_of.flattery(order),
        "finalists": [_finalist(summary, finals, standing) for standing in order],
        "contrasts": [_contrast(contrast) for contrast in contrasts(finals)],
    }


def _verdict(best: Standing, verdict: finals_of.Verdict, finals: Finals) -> dict[str, Any]:
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
