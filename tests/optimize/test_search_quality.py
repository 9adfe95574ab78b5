"""The simulated searches: times, workers and arithmetic against sums by hand and the model asked directly."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from benchmarks.search import problems, quality
from benchmarks.search.curves import Table
from benchmarks.search.lcbench import EPOCHS, MODEL, TASKS, train
from benchmarks.search.problems import Problem, problem
from benchmarks.search.quality import Run
from benchmarks.search.quality_page import Compared
from benchmarks.search.simulation import Ours, simulate
from search.spec import Sampler, SearchSpec

CONFIGURATION = {
    "batch_size": 64,
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.01,
    "num_layers": 3,
    "max_units": 256,
    "max_dropout": 0.2,
}


def test_a_training_is_what_the_model_says() -> None:
    session = onnxruntime.InferenceSession(str(MODEL))
    rows = np.array([[epoch, 64, 0.01, 0.9, 0.01, 3, 256, 0.2] for epoch in range(1, EPOCHS + 1)], np.float32)
    # 3945 is the 34th of the tasks that the model was given; its second output is the accuracy
    out = np.asarray(session.run(None, {"x_cat": np.full((EPOCHS, 1), 34, np.int32), "x_cont": rows})[0])
    np.testing.assert_allclose(list(train(3945, CONFIGURATION)), 100 - out[:, 1], rtol=1e-4)
    assert len(TASKS) == 34


class Scripted:
    """Asks for two trainings; the first stops after two epochs, waits, and is asked for again at last."""

    def __init__(self) -> None:
        self.queue = [0, 1, 0]
        self.told: list[tuple[str, int]] = []

    def suggest(self, trial_id: str) -> tuple[int, Mapping[str, Any]] | None:
        return (self.queue.pop(0), CONFIGURATION) if self.queue else None

    def result(self, trial_id: str, epoch: int, error: float) -> bool:
        self.told.append((trial_id, epoch))
        return (trial_id, epoch) in {("0", 2), ("1", 3), ("2", 4)}


def test_workers_train_one_after_another_and_at_once() -> None:
    player, of = Scripted(), problem("3945")
    trace = simulate(player, of, math.inf, workers=1)
    assert player.told == [("0", 1), ("0", 2), ("1", 1), ("1", 2), ("1", 3), ("2", 3), ("2", 4)]
    errors = list(train(3945, CONFIGURATION))[:4]
    assert errors == sorted(errors, reverse=True)  # so each epoch that is new is the best so far
    assert trace == [(1, errors[0]), (2, errors[1]), (5, errors[2]), (7, errors[3])]
    simulate(two := Scripted(), of, math.inf, workers=2)
    assert two.told[:4] == [("0", 1), ("1", 1), ("0", 2), ("1", 2)]
    simulate(stopped := Scripted(), of, 1.0, workers=2)
    assert stopped.told == [("0", 1), ("1", 1)]


@pytest.mark.parametrize("sampler", [Sampler.RANDOM, Sampler.FREEZE_THAW])
def test_same_seed_same_search(sampler: Sampler) -> None:
    def search(seed: int) -> list[tuple[float, float]]:
        of = problem("3945")
        return simulate(Ours(SearchSpec(trials=1000, sampler=sampler, seed=seed), of, 8, starts=False), of, 30.0, 8)

    first = search(1)
    assert first == search(1)
    assert first != search(2)


@pytest.mark.parametrize("sampler", [Sampler.RANDOM, Sampler.FREEZE_THAW])
def test_of_a_table_each_row_is_trained_once(sampler: Sampler) -> None:
    """All that a search gets to know are the curves of the table, and in the end each."""
    table, of = Table.read(), problem("digits")
    found: list[float] = []

    def recorded(values: Mapping[str, Any]) -> Iterator[float]:
        assert dict(values) in [dict(row) for row in table.configurations]
        found.append(float(values["train.lr"]))
        return of.train(values)

    spec = SearchSpec(trials=1000, sampler=sampler)
    trace = simulate(Ours(spec, of, 8, starts=True), replace(of, train=recorded), math.inf, 8)
    assert sorted(found) == sorted(row["train.lr"] for row in table.configurations)
    curves = table.tasks["digits"].errors
    assert trace[-1][1] >= min(min(curve) for curve in curves)
    assert all(any(error in curve for curve in curves) for _, error in trace)


def others(of: Problem) -> list[Mapping[str, Any]]:
    return [start.chosen for start in of.starts()]


@pytest.mark.parametrize("name", ["3945", "digits"])
def test_what_a_search_begins_with_says_nothing_of_its_own_task(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where all errors of the task itself are turned round."""
    before = others(problem(name))
    assert len(before) == 8
    if name == "3945":
        turned = {task: (1 - loss if task == 3945 else loss) for task, loss in problems._of_lcbench().items()}
        monkeypatch.setattr(problems, "_of_lcbench", lambda: turned)
    else:
        table = Table.read()
        task = table.tasks[name]
        worse = replace(task, errors=tuple(tuple(100 - error for error in curve) for curve in task.errors))
        monkeypatch.setattr(problems, "_table", lambda: Table(table.configurations, {**table.tasks, name: worse}))
    problem.cache_clear()
    assert others(problem(name)) == before
    problem.cache_clear()


def test_regret_and_factor() -> None:
    budgets = np.array([1.0, 2.0, 5.0, 10.0])
    runs = [Run("1", "a", 0, [(1.5, 30.0), (4.0, 12.0)]), Run("1", "a", 1, [(0.5, 20.0)])]
    ours = quality.regrets(runs, 10.0, budgets)
    np.testing.assert_array_equal(ours, [[90, 20, 2, 2], [10, 10, 10, 10]])  # means 50, 15, 6, 6
    theirs = np.array([[90, 50, 20, 15], [90, 50, 10, 15.0]])  # 90, 50, 15, 15
    of = Compared("kind", budgets, {("1", "a"): ours, ("1", "b"): theirs}, "b")
    np.testing.assert_allclose(of.factors("a"), [[2 / 1, 5 / 2, 10 / 2]])
    back = Compared("kind", budgets, {("1", "a"): theirs, ("1", "b"): ours}, "b")
    np.testing.assert_allclose(back.factors("a"), [[2 / 5, 5 / 10, 10 / 10]])
    assert back.each("a", 10) == ["<1.0"], "never as low as 6"
