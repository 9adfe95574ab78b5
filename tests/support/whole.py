"""Whether a study is whole: every trial over, once, and bit for bit what training it alone gives."""

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import torch
from safetensors.torch import load_file

from search.data import prepare
from search.spec import DataSpec, TrialSpec
from search.training import Resident, train
from tests.support.study_process import STUDY


def report_of(folder: Path) -> dict[str, Any]:
    """The study's report.json."""
    return json.loads((folder / "results" / "tiny" / "report.json").read_text())


@dataclass(frozen=True)
class Runs:
    """MLflow's own database, read without MLflow; runs that were deleted do not count, nor those of other studies."""

    database: Path | str  # a SQLite file, or the URL of a PostgreSQL database
    study: str | None = None  # None: there is only one

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if isinstance(self.database, str):
            with psycopg.connect(self.database) as opened:
                return opened.execute(sql).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue] - not literal
        with sqlite3.connect(self.database) as opened:
            return opened.execute(sql).fetchall()

    def active(self) -> list[str]:
        active = {run for (run,) in self.query("select run_uuid from runs where lifecycle_stage = 'active'")}
        of = dict(self.query("select run_uuid, value from tags where key = 'search.study'"))
        return [run for run in active if self.study is None or of.get(run) == self.study]

    def tag(self, key: str) -> dict[str, str]:
        """Run -> value."""
        found = dict(self.query(f"select run_uuid, value from tags where key = '{key}'"))
        return {run: found[run] for run in self.active() if run in found}

    def points(self, run: str) -> Counter[tuple[str, int, float]]:
        """(metric, step, value) -> how often it is there."""
        return Counter(self.query(f"select key, step, value from metrics where run_uuid = '{run}'"))


def assert_whole(folder: Path, trials: int) -> dict[str, Any]:
    """The finished study in `folder` is whole, by its own database. Returns its report."""
    report = report_of(folder)
    results = folder / "results"
    assert_all_there(report, trials, results / "mlflow.db", results / "mlartifacts")
    return report


def assert_all_there(
    report: dict[str, Any], trials: int, database: Path | str, artifacts: Path, study: str | None = None
) -> None:
    """A report has `trials` trials, and MLflow one run for each, with each epoch once.

    `study`: its name, where MLflow has others, too.
    Every trial's errors, losses and weights equal, bit for bit, those of its specification trained here, alone.
    """
    assert [t["number"] for t in report["trials"]] == list(range(trials))
    assert {t["state"] for t in report["trials"]} <= {"complete", "pruned", "diverged"}, report["counts"]
    runs = Runs(database, study)
    numbers = runs.tag("search.trial")
    assert sorted(int(n) for n in numbers.values()) == list(range(trials)), "one run a trial"
    assert sorted(runs.tag("search.kind").values()) == ["study"] + ["trial"] * trials
    status = dict(runs.query("select run_uuid, status from runs"))
    assert {status[run] for run in runs.active()} == {"FINISHED"}
    run_of = {int(number): run for run, number in numbers.items()}
    for told in report["trials"]:
        assert_as_alone(artifacts, told, run_of[told["number"]], runs)


def assert_as_alone(root: Path, told: dict[str, Any], run: str, runs: Runs) -> None:
    """One trial of a report, and its run, against its specification trained here."""
    (artifacts,) = root.rglob(f"{run}/artifacts")
    spec = TrialSpec.model_validate_json((artifacts / "trial.json").read_text())
    expected, model = alone(spec, told["epochs"])
    points = runs.points(run)
    measured = Counter({p: n for p, n in points.items() if p[0].startswith(("train/", "val/"))})
    assert measured == expected, f"trial {told['number']}"
    assert max(points.values()) == 1, "nothing is doubled"
    assert Counter(name for name, _, _ in points)["cost/seconds"] == told["epochs"]
    assert dict(told["curve"]) == {e: v for name, e, v in expected if name == "val/error"}
    weights = load_file(artifacts / "model.safetensors")
    assert weights.keys() == model.keys()
    assert all(torch.equal(weights[name], model[name]) for name in weights)


@lru_cache(maxsize=64)  # studies that are compared have the same trials
def alone(spec: TrialSpec, epochs: int) -> tuple[Counter[tuple[str, int, float]], dict[str, torch.Tensor]]:
    """Of a specification trained in this process on one thread as a worker has: (metric, epoch, value), and weights."""
    data = DataSpec.model_validate(STUDY["data"])
    prepared = prepare(data)
    scale = prepared.info.mean, prepared.info.std
    splits = [Resident.load(s, *scale, torch.device("cpu")) for s in (prepared.train(), prepared.validation())]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        training = train(spec, splits[0], splits[1])
        trained = list(islice(training, epochs))
        weights = {name: tensor.clone() for name, tensor in trained[-1].state().weights.items()}
    finally:
        torch.set_num_threads(before)
    assert len(trained) == epochs
    names = ("train/loss", "train/error", "val/loss", "val/error", "val/balanced_error")
    return Counter((name, epoch.number, epoch.metrics[name]) for epoch in trained for name in names), weights
