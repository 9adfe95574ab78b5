"""The simulated searches: times, workers and arithmetic against sums by hand and the model asked directly."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest

from benchmarks.search import quality, quality_page
from benchmarks.search.learning_curves import EPOCHS, MODEL, TASKS, Training
from benchmarks.search.quality import Run
from benchmarks.search.simulation import Ours, simulate
from search.spec import SearchSpec

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
    # 3945 is the 34th of the tasks that the model was given; the first two outputs are seconds and accuracy
    out = np.asarray(session.run(None, {"x_cat": np.full((EPOCHS, 1), 34, np.int32), "x_cont": rows})[0])
    training = Training(3945, CONFIGURATION)
    np.testing.assert_allclose([training.step() for _ in range(EPOCHS)], 100 - out[:, 1], rtol=1e-4)
    assert EPOCHS * training.seconds() == pytest.approx(out[-1, 0], rel=1e-4)
    assert len(TASKS) == 34


class Scripted:
    """Asks for two trainings; the first stops after two epochs, waits, and is asked for again at last."""

    def __init__(self) -> None:
        self.queue = [0, 1, 0]
        self.told: list[tuple[str, int]] = []

    def suggest(self, trial_id: str) -> tuple[int, Mapping[str, Any]] | None:
        return (self.queue.pop(0), CONFIGURATION) if self.queue else None

    def result(self, trial_id: str, epoch: int, error: float, seconds: float) -> bool:
        self.told.append((trial_id, epoch))
        return (trial_id, epoch) in {("0", 2), ("1", 3), ("2", 4)}


def test_workers_train_one_after_another_and_at_once() -> None:
    player = Scripted()
    trace = simulate(player, 3945, math.inf, workers=1, timed=False)
    assert player.told == [("0", 1), ("0", 2), ("1", 1), ("1", 2), ("1", 3), ("2", 3), ("2", 4)]
    training = Training(3945, CONFIGURATION)
    errors = [training.step() for _ in range(4)]
    assert errors == sorted(errors, reverse=True)  # so each epoch that is new is the best so far
    assert trace == [(1, errors[0]), (2, errors[1]), (5, errors[2]), (7, errors[3])]
    timed = simulate(Scripted(), 3945, math.inf, workers=1, timed=True)
    assert timed == [(pytest.approx(at * training.seconds()), error) for at, error in trace]
    simulate(two := Scripted(), 3945, math.inf, workers=2, timed=False)
    assert two.told[:4] == [("0", 1), ("1", 1), ("0", 2), ("1", 2)]
    simulate(stopped := Scripted(), 3945, 1.0, workers=2, timed=False)
    assert stopped.told == [("0", 1), ("1", 1)]


def test_same_seed_same_search() -> None:
    def search(seed: int) -> list[tuple[float, float]]:
        return simulate(Ours(SearchSpec(trials=1000, seed=seed), 8), 3945, 60.0, 8, timed=False)

    first = search(1)
    assert first == search(1)
    assert first != search(2)


def test_regret_and_speedup() -> None:
    budgets = np.array([1.0, 2.0, 4.0, 8.0])
    runs = [Run(1, "a", 0, [(1.5, 30.0), (4.0, 12.0)]), Run(1, "a", 1, [(0.5, 20.0)])]
    regrets = quality.regrets(runs, 10.0, budgets)
    np.testing.assert_array_equal(regrets, [[90, 20, 2, 2], [10, 10, 10, 10]])
    # means 50, 15, 6, 6; a random search that ends at a mean of 15 is reached at budget 2 of 8
    random = np.array([[90, 50, 20, 20], [90, 50, 10, 10.0]])
    assert quality_page.speedup(regrets, random, budgets, short=8) == 4.0
    assert quality_page.speedup(regrets, random, budgets, short=1) == 0.0
