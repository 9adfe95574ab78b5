"""What a study's outbox says against what the tracking server has, read without MLflow's client."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.mlflow_server import history, runs_of


@dataclass(frozen=True)
class Sent:
    """Of the metrics of every epoch in an outbox, point by point: (trial, metric, epoch, value, time in ms)."""

    runs: int  # on the server, active: the study's and the trials'
    points: int  # in the outbox
    missing: int  # in the outbox only
    foreign: int  # on the server only, or there more often than in the outbox


def compare(outbox: Path, url: str, experiment: str = "resnet-search") -> Sent:
    """Compares them. Fails unless each trial that began has one run, the study another, and all of them are over."""
    events = [json.loads(line) for line in outbox.read_text().splitlines()]
    found = runs_of(url, experiment)
    runs = {run["tags"].get("search.trial"): run for run in found}
    assert len(found) == len(runs), "a trial has two runs"
    assert runs.keys() == {None, *(str(event["number"]) for event in events if event["kind"] == "trial_started")}
    assert {run["info"]["status"] for run in found} == {"FINISHED"}
    told: Counter[tuple[str, str, int, float, int]] = Counter()
    for event in events:
        if event["kind"] == "epoch":
            number, step, at = str(event["number"]), event["epoch"], event["time_ms"]
            told.update((number, key, step, float(value), at) for key, value in event["metrics"].items())
    there: Counter[tuple[str, str, int, float, int]] = Counter()
    for number, key in {(number, key) for number, key, *_ in told}:
        points = history(url, runs[number]["info"]["run_id"], key)
        there.update((number, key, step, value, at) for step, value, at in points)
    return Sent(len(found), told.total(), (told - there).total(), (there - told).total())
