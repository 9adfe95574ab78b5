"""Trainings that share a worker: as it trains them, and in finals through a real Ray, of which a worker is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.execution import host, worker
from search.execution.worker import TrialWorker
from search.training import latest
from tests.execution.test_trial import config
from tests.support.seeds_together import EPOCHS
from tests.support.study_process import wait_until

ROOT = Path(__file__).parents[2]
OWN = "number", "spec", "folder", "epochs_known", "weights"  # of a training among others


def trained(configs: list[dict[str, Any]], steps: int = 99) -> list[dict[str, Any]]:
    """The reports of one worker that trains these together, in this process: at most so many."""
    first, *others = configs
    made = TrialWorker(first | {"others": [{name: other[name] for name in OWN} for other in others]})
    reports: list[dict[str, Any]] = []
    while len(reports) < steps and not (reports and reports[-1]["done"]):
        reports.append(made.step())
    made.cleanup()
    return reports


def configs(folder: Path, **fields: Any) -> list[dict[str, Any]]:
    """Three seeds of a finalist."""
    fixed = {"train.epochs": 3, "net.version": "v2", "net.shortcut": "dropout"} | fields
    return [config(folder, seed, **fixed, **{"train.seed": seed}) | {"final": True} for seed in range(3)]


@pytest.fixture(autouse=True)
def _unpinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(worker, "REPORT_SECONDS", 0.0)  # so that each epoch is a report
    monkeypatch.setattr("search.execution.process.device.pin", lambda threads: frozenset[int]())  # this is no worker
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def results(reports: list[dict[str, Any]]) -> dict[tuple[int, int], dict[str, float]]:
    """(Number, epoch) -> metrics, but for what it cost."""
    assert all("failure" not in report and "halt" not in report for report in reports)
    return {
        (epoch["number"], epoch["epoch"]): {k: v for k, v in epoch["metrics"].items() if not k.startswith("cost/")}
        for report in reports
        for epoch in report["epochs"]
    }


def told(reports: list[dict[str, Any]]) -> list[list[tuple[int, int]]]:
    """(Number, epoch) of each report."""
    return [[(epoch["number"], epoch["epoch"]) for epoch in report["epochs"]] for report in reports]


def assert_each_is_alone(folder: Path, reports: list[dict[str, Any]]) -> None:
    """Its metrics, and the weights in its folder."""
    alone = configs(folder / "alone")
    expected: dict[tuple[int, int], dict[str, float]] = {}
    for one in alone:
        expected |= results(trained([one]))
    assert results(reports) == expected
    assert [report["done"] for report in reports] == [False] * (len(reports) - 1) + [True]
    for mine, theirs in zip(configs(folder), alone, strict=True):
        one, other = latest(mine["folder"]), latest(theirs["folder"])
        assert one is not None
        assert other is not None
        assert one.tested is not None
        assert all(torch.equal(one.state.weights[name], other.state.weights[name]) for name in other.state.weights)


def test_a_worker_trains_several_together_and_each_has_its_own_folder(tmp_path: Path) -> None:
    reports = trained(configs(tmp_path))
    assert told(reports) == [[(number, epoch) for number in range(3)] for epoch in (1, 2, 3)]
    assert_each_is_alone(tmp_path, reports)


@pytest.mark.parametrize("stop", [1, 2])
def test_together_they_go_on_where_a_worker_was_stopped(stop: int, tmp_path: Path) -> None:
    before = trained(configs(tmp_path), steps=stop)
    after = trained([one | {"epochs_known": stop} for one in configs(tmp_path)])
    assert told(before + after) == [[(number, epoch) for number in range(3)] for epoch in (1, 2, 3)]
    assert_each_is_alone(tmp_path, before + after)


def test_too_little_memory_for_all_lets_each_go_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second epoch of two or more finds none."""
    epochs, sizes = worker.epochs, []

    def short_of_memory(trainings: Any, *arguments: Any) -> Any:
        sizes.append(len(trainings))
        for several in epochs(trainings, *arguments):
            yield several
            if len(trainings) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(worker, "epochs", short_of_memory)
    reports = trained(configs(tmp_path))
    assert sizes == [3, 1, 1, 1]
    assert told(reports)[:2] == [[(0, 1), (1, 1), (2, 1)], []]
    assert [each for several in told(reports)[2:] for each in several] == [(n, e) for n in range(3) for e in (1, 2, 3)]
    assert_each_is_alone(tmp_path, reports)


def test_one_that_fails_by_itself_fails_alone(tmp_path: Path) -> None:
    """The second is of a network that there is not."""
    asked = configs(tmp_path)
    asked[1] |= {"spec": asked[1]["spec"] | {"net": {"depth": 9}}}
    reports = trained(asked)
    failed = [report["number"] for report in reports if "failure" in report]
    assert failed == [1]
    assert [epoch["number"] for report in reports for epoch in report["epochs"] if epoch["last"]] == [0, 2]
    assert [report["done"] for report in reports] == [False] * (len(reports) - 1) + [True]


def study(folder: Path, gpus: int, kill: bool = False) -> tuple[list[optuna.trial.FrozenTrial], list[list[int]], str]:
    """Trainings of its finals, the numbers of each start, and what was printed; once there are checkpoints a worker may
    be killed.
    """
    folder.mkdir(exist_ok=True)
    environment = os.environ | host._ALWAYS | host._HERE | {"PYTHONPATH": str(ROOT)}  # Ray reads it when it is imported
    log = folder / "log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "tests.support.seeds_together", str(folder), str(gpus)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    if kill:
        wait_until(lambda: len([*folder.glob("trials/*/epoch-*")]) >= 4, process, log)
        family = psutil.Process(process.pid).children(recursive=True)
        (victim,) = (one for one in family if (one.cmdline() or [""])[0].startswith("ray::ResourceTrainable"))
        victim.kill()
    assert process.wait(400) == 0, log.read_text()
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    trials = optuna.load_study(study_name="study/finals", storage=storage).trials
    starts = [json.loads(line) for line in (folder / "starts").read_text().splitlines()]
    return trials, starts, log.read_text()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.nightly
def test_finals_whose_worker_is_killed_are_those_of_trainings_alone(tmp_path: Path) -> None:
    """Two rows that differ in their rate, with two seeds each, are one worker's; then each has a worker."""
    killed, starts, printed = study(tmp_path / "killed", 1, kill=True)
    assert starts == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert printed.count("goes on from its last checkpoint in another") == 4
    alone, each, _ = study(tmp_path / "alone", 0)
    assert each == [[0], [1], [2], [3]]
    found, expected = (
        {
            (trial.user_attrs["finalist"], trial.user_attrs["params"]["train.seed"]): (
                trial.intermediate_values,
                trial.value,
            )
            for trial in trials
        }
        for trials in (killed, alone)
    )
    assert found == expected
    assert {len(curve) for curve, _ in found.values()} == {EPOCHS}
