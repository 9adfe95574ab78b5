"""What a study's journal says against what the tracking server has, read without MLflow's client."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.journal import reported, trials
from tests.support.mlflow_server import history, runs_of


@dataclass(frozen=True)
class Sent:
    """Of the metrics of every epoch on record, point by point: (trial, metric, epoch, value, time in ms)."""

    runs: int  # on the server, active: the study's and the trials'
    points: int  # on record
    missing: int  # on record only
    foreign: int  # on the server only, or there more often than on record


def compare(folder: Path, url: str, experiment: str = "resnet-search") -> Sent:
    """Compares them. Fails unless each trial that began has one run, the study another, and all of them are over."""
    found = runs_of(url, experiment)
    runs = {run["tags"].get("search.trial"): run for run in found}
    assert len(found) == len(runs), "a trial has two runs"
    assert runs.keys() == {None, *(str(trial.number) for trial in trials(folder))}
    assert {run["info"]["status"] for run in found} == {"FINISHED"}
    told: Counter[tuple[str, str, int, float, int]] = Counter()
    for one in reported(folder):
        told.update((str(one.number), key, one.epoch, value, one.time_ms) for key, value in one.metrics.items())
    there: Counter[tuple[str, str, int, float, int]] = Counter()
    for number, key in {(number, key) for number, key, *_ in told}:
        points = history(url, runs[number]["info"]["run_id"], key)
        there.update((number, key, step, value, at) for step, value, at in points)
    return Sent(len(found), told.total(), (told - there).total(), (there - told).total())
