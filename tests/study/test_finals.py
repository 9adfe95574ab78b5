"""The finals of a real study: trained on train + validation, tested once, one run each in MLflow, and nothing lost."""

import json
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from search.data import Prepared, Split, prepare
from search.spec import DataSpec, TrialSpec
from search.training import Resident, train
from search.training.loop import Epoch
from tests.support.opened import Opened
from tests.support.study_process import STUDY, command, run, start, wait_until
from tests.support.whole import Runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's"),
]
FINALS = {"top": 2, "seeds": 2, "max_seeds": 2}
TRIALS = 3
FLAGS = ("--trials", str(TRIALS), "--scheduler", "none", "--set", "start=[]")  # all complete: two finalists that differ


def prepared() -> Prepared:
    return prepare(DataSpec.model_validate(STUDY["data"]))


def test_files() -> tuple[Path, Path]:
    return prepared().folder / "test_images.npy", prepared().folder / "test_labels.npy"


test_files.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int], list[int]]:
    """A study with its search first, then the same with finals, in which it is killed once.

    Its folder, and how often the two files of the test split were opened in the search, and in the finals.
    """
    folder = tmp_path_factory.mktemp("finals")
    with Opened(*test_files()) as during_search:
        searched = run(folder, command(folder, *FLAGS))
    assert searched.returncode == 0, searched.stdout + searched.stderr
    line = command(folder, *FLAGS, "--set", f"finals={FINALS}")
    with Opened(*test_files()) as during_finals:
        process, log = start(folder, line)
        wait_until(lambda: during_finals.counts()[0] > 0, process, log)
        process.send_signal(signal.SIGKILL)
        process.wait()
        again = run(folder, line)
    assert again.returncode == 0, again.stdout + again.stderr
    return folder, during_search.counts(), during_finals.counts()


@pytest.fixture(scope="module")
def runs(finished: tuple[Path, list[int], list[int]]) -> Runs:
    return Runs(finished[0] / "results" / "mlflow.db")


def test_the_test_split_is_read_by_finalists_alone(finished: tuple[Path, list[int], list[int]]) -> None:
    """The kernel counts who opens its files: nobody in the search, in the finals each training once, to map it."""
    _, during_search, during_finals = finished
    assert during_search == [0, 0]
    trainings = FINALS["top"] * FINALS["seeds"]
    with Opened(*test_files()) as mapped:
        for file in test_files():
            np.lib.format.open_memmap(file, mode="r")
    assert mapped.counts() == [2, 2], "numpy opens a file for its header, and again to map it"
    # The worker of a driver that is killed may test once more what no record says is tested; each of two at most once.
    assert all(2 * trainings <= opened <= 2 * (trainings + 2) for opened in during_finals), during_finals


def test_each_training_is_one_run_below_its_trial(finished: tuple[Path, list[int], list[int]], runs: Runs) -> None:
    kinds, above = runs.tag("search.kind"), runs.tag("mlflow.parentRunId")
    trials, seeds = runs.tag("search.trial"), runs.tag("search.seed")
    assert sorted(kinds.values()) == ["seed"] * 4 + ["study"] + ["trial"] * TRIALS
    of_seeds = [run for run, kind in kinds.items() if kind == "seed"]
    assert sorted(seeds[run] for run in of_seeds) == ["0", "0", "1", "1"]
    for one in of_seeds:
        assert kinds[above[one]] == "trial"
        assert trials[above[one]] == trials[one]
    ranked = sorted(json.loads((finished[0] / "results/tiny/report.json").read_text())["trials"], key=place)
    assert {int(trials[run]) for run in of_seeds} == {t["number"] for t in ranked[:2]}


def place(trial: dict[str, Any]) -> tuple[bool, float, int, int]:
    return trial["state"] != "complete", trial["val_error"], trial["macs"], trial["number"]


def test_each_training_is_what_its_specification_gives_alone(
    finished: tuple[Path, list[int], list[int]], runs: Runs
) -> None:
    """On train + validation."""
    (root,) = (finished[0] / "results").glob("mlartifacts")
    for one in [each for each, kind in runs.tag("search.kind").items() if kind == "seed"]:
        (artifacts,) = root.rglob(f"{one}/artifacts")
        spec = TrialSpec.model_validate_json((artifacts / "trial.json").read_text())
        points = runs.points(one)
        assert max(points.values()) == 1, "nothing is doubled"
        reported = {name: value for name, step, value in points if step == spec.train.epochs}
        assert reported["train/loss"] == list(alone(spec))[-1].metrics["train/loss"]
        assert not any(name.startswith("val/") for name in reported)
        assert len([name for name, _, _ in points if name == "test/error"]) == 1


def alone(spec: TrialSpec) -> Iterator[Epoch]:
    data = prepared()
    splits = data.train(), data.validation()
    whole = Split(*(np.concatenate(parts) for parts in zip(*((s.images, s.labels) for s in splits), strict=True)))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from train(spec, Resident.load(whole, data.info.mean, data.info.std, torch.device("cpu")), None)
    finally:
        torch.set_num_threads(before)


def test_a_trials_run_has_what_its_trainings_gave_together(
    finished: tuple[Path, list[int], list[int]], runs: Runs
) -> None:
    kinds, above = runs.tag("search.kind"), runs.tag("mlflow.parentRunId")
    for trial in [one for one, kind in kinds.items() if kind == "trial"]:
        below = [one for one, parent in above.items() if parent == trial]
        found = {name: value for name, step, value in runs.points(trial) if name.startswith("test/") and step == 2}
        if not below:
            assert found == {}
            continue
        errors = [value for one in below for name, _, value in runs.points(one) if name == "test/error"]
        assert found["test/error_mean"] == pytest.approx(np.mean(errors), abs=0.005)
        assert found["test/seeds"] == len(errors) == 2
        spread = max(np.std(errors, ddof=1), 100 / 359 / 2)  # never below what 359 images resolve
        low, high = stats.t.interval(0.95, 1, np.mean(errors), spread / np.sqrt(2))
        assert found["test/error_low"] == pytest.approx(max(low, 0), abs=0.005)
        assert found["test/error_high"] == pytest.approx(min(high, 100), abs=0.005)


def test_the_same_command_trains_nothing_more(finished: tuple[Path, list[int], list[int]]) -> None:
    folder = finished[0]
    before = (folder / "results" / "tiny" / "optuna.journal").read_bytes()
    again = run(folder, command(folder, *FLAGS, finals=FINALS))
    assert again.returncode == 0
    assert "complete" in again.stdout
    assert (folder / "results" / "tiny" / "optuna.journal").read_bytes() == before
    with sqlite3.connect(folder / "results" / "mlflow.db") as database:
        assert database.execute("select count(*) from runs where lifecycle_stage = 'active'").fetchone() == (8,)
