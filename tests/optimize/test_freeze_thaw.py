"""The model that chooses the next step: its numbers by scikit-learn and by integration, its rows, and its budget."""

import math

import numpy as np
import pytest
from optuna.storages import InMemoryStorage
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from search.optimize.axes import Axes
from search.optimize.gaussian import STEADY, Front, Process, Scales, log_improvement
from search.records import TrialState
from search.spec import Sampler, SearchSpec
from search.spec.space import make
from tests.support.simulated import FIXED, Setting, play

OWNER = np.array([0, 1, 2, 2, 2])  # two numbers, and a choice of three
SCALES = Scales(np.array([0.4, 0.9, 1.3]), noise=0.02, signal=1.7)
SPACE = {
    "net.depth": [8, 14, 20, 32],
    "net.shortcut": ["identity", "none", "shortcut_only_gate"],
    "net.gate_bias": {"low": -6.0, "high": 0.0, "when": {"net.shortcut": "shortcut_only_gate"}},
    "train.lr": {"low": 0.01, "high": 0.5, "log": True},
}


def points(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = np.hstack([draw.random((n, 2)), np.eye(3)[draw.integers(3, size=n)]])
    return x, np.sin(5 * x[:, 0]) + x[:, 2] + 0.1 * draw.normal(size=n)


def kernel(scales: Scales) -> ConstantKernel:
    return ConstantKernel(scales.signal) * Matern(scales.lengths[OWNER], nu=2.5) + WhiteKernel(scales.noise + STEADY)


def test_predictions_are_those_of_scikit_learn() -> None:
    x, y = points(40, 0)
    other, _ = points(7, 1)
    theirs = GaussianProcessRegressor(kernel(SCALES), alpha=0, optimizer=None).fit(x, y)
    mean, deviation = theirs.predict(other, return_std=True)
    ours = Process(OWNER, SCALES, x, y).predict(other)
    np.testing.assert_allclose(ours[0], mean, rtol=1e-8)
    np.testing.assert_allclose(ours[1], deviation**2 - SCALES.noise, rtol=1e-5, atol=1e-7)


def test_fitted_scales_are_likelier_than_those_before() -> None:
    """By scikit-learn's likelihood; the second number says nothing of the target, so its length is the longest."""
    x, y = points(60, 2)
    y = (y - y.mean()) / y.std()
    fitted = Scales.fitted(OWNER, x, y)
    likelihood = [GaussianProcessRegressor(kernel(s), alpha=0, optimizer=None).fit(x, y) for s in (SCALES, fitted)]
    before, after = (one.log_marginal_likelihood_value_ for one in likelihood)
    assert after > before + 5
    assert fitted.lengths.argmax() == 1


@pytest.mark.parametrize("z", [2.0, 0.0, -3.0, -8.0])
def test_log_improvement_is_that_of_the_integral(z: float) -> None:
    mean, deviation = 1.5, 0.7
    best = mean + z * deviation
    below = quad(lambda y: (best - y) * norm.pdf(y, mean, deviation), best - 12 * deviation, best, epsabs=0)[0]
    found = log_improvement(np.array([mean]), np.array([deviation**2]), best)[0]
    assert found == pytest.approx(math.log(below), abs=0.06 if z < -5 else 1e-6)


def test_what_is_added_below_the_front_is_the_area() -> None:
    """Drawn many times: errors below the lowest that each cost can buy, summed over a fine grid of costs."""
    costs, errors = np.array([3.0, 1.0, 2.0, 2.5, 3.6]), np.array([0.5, 2.0, 1.0, 1.4, 0.9])
    front = Front.of(costs, errors)
    grid = np.linspace(0.0, front.dearest + front.margin, 4001)
    bought = np.array([min([2.0, *errors[costs <= cost]]) for cost in grid])
    drawn = np.random.default_rng(0).normal(1.1, 0.6, 4000)
    for cost in (0.2, 1.0, 1.7, 2.6, 3.0, 3.3, 3.6):
        added = [np.trapezoid(np.where(grid >= cost, np.maximum(bought - error, 0), 0), grid) for error in drawn]
        found = front.log_improvement(np.array([1.1]), np.array([0.36]), np.array([cost]))[0]
        assert math.exp(found) == pytest.approx(np.mean(added), rel=0.06)


def test_rows_are_configurations_of_the_space_and_back() -> None:
    space = make(SPACE, FIXED)
    axes, draw = Axes(space), np.random.default_rng(3)
    rows = axes.draw(draw, 200)
    near = axes.near(rows, np.full(200, 0.1), draw)
    for row in (*rows, *near):
        chosen = axes.chosen(row)
        assert space.parameters(chosen) == {path: chosen[path] for path in SPACE if path in chosen}
        assert ("net.gate_bias" in chosen) == (chosen["net.shortcut"] == "shortcut_only_gate")
        np.testing.assert_allclose(axes.row(chosen), row, atol=1e-12)
    assert 0.2 < np.mean(rows[:, 1] == near[:, 1]) < 0.9, "some choices are drawn again"


def test_the_epochs_are_those_that_halving_would_need() -> None:
    """Of 40 trials of 9 epochs, rungs 1 and 3: 40 + 40/3 * 2 + 40/9 * 6 = 93.3."""
    search = SearchSpec(sampler=Sampler.FREEZE_THAW, trials=40, first_rung=1, reduction=3)
    records = play(Setting(search, epochs=9), InMemoryStorage(), workers=3)
    assert len(records) == 40
    assert 80 <= sum(record.epochs for record in records) <= 93
    assert any(record.state is TrialState.COMPLETE for record in records)
