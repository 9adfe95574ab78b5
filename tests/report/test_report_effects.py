"""What one choice changes, against values by hand, scipy and a simulation with known effects."""

import random
from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
from scipy import stats

from search.records import TrialRecord, TrialState
from search.report import effects
from search.report.effects import Effect
from search.report.figures import ratios
from tests.support import sample_study as sample

SUMMARY = sample.summary(first_rung=1, data={"name": "d", "validation": 10_000})


def trial(number: int, error: float, later: float = 5.0, **params: Any) -> TrialRecord:
    """At epoch 1 with this error, at epoch 2 with the `later` one."""
    named = {path.replace("__", "."): value for path, value in params.items()}
    return TrialRecord(number, TrialState.COMPLETE, named, 2, {1: error, 2: later})


def between(found: list[Effect], path: str, value: str) -> Effect:
    (one,) = [effect for effect in found if (effect.path, effect.value) == (path, value)]
    return one


def test_the_effect_of_two_values_is_the_t_test_of_equal_variances_of_logarithms() -> None:
    # The learning rate does not vary, so the version is all that does: least squares with one dummy.
    one, other = (10.0, 11.0, 13.0, 9.0), (14.0, 15.0, 13.5, 19.0, 16.0)
    trials = [trial(n, e, 1.0, net__version="v2", net__depth=20) for n, e in enumerate(one)]
    trials += [trial(9 + n, e, 2.0, net__version="v1", net__depth=20) for n, e in enumerate(other)]
    found = between(effects.effects(SUMMARY, trials), "net.version", "v1")
    student = stats.ttest_ind([log(e) for e in other], [log(e) for e in one])
    low, high = student.confidence_interval(0.95)
    assert (log(found.low), log(found.high)) == pytest.approx((low, high))
    assert log(found.ratio) == pytest.approx((low + high) / 2)
    assert (found.reference, found.trials) == ("v2", 9)


def searched(draw: random.Random) -> list[TrialRecord]:
    """40 trials: v1 errs 1.3 times as much as v2, no shortcut 2 times; the best learning rate is 0.1."""
    trials: list[TrialRecord] = []
    for number in range(40):
        version, shortcut = draw.choice(("v2", "v1")), draw.choice(("identity", "none", "conv1x1"))
        lr = 0.01 * 50 ** draw.random()
        error = 10 * {"v2": 1.0, "v1": 1.3}[version] * {"identity": 1.0, "none": 2.0, "conv1x1": 1.0}[shortcut]
        error *= exp(0.15 * log(lr / 0.1) ** 2 + draw.gauss(0, 0.15))
        later = 1.0 if number == 0 else 5.0
        trials.append(trial(number, error, later, net__version=version, net__shortcut=shortcut, train__lr=lr))
    first = trials[0]
    trials[0] = replace(first, params=first.params | {"net.version": "v2", "net.shortcut": "identity"})
    trials[0] = replace(trials[0], curve={1: 10 * exp(0.15 * log(first.params["train.lr"] / 0.1) ** 2), 2: 1.0})
    return trials


def test_intervals_of_the_model_hold_the_truth_as_often_as_they_say() -> None:
    draw = random.Random(5)
    held = {"v1": 0, "none": 0, "conv1x1": 0}
    runs = 300
    for _ in range(runs):
        for effect in effects.effects(SUMMARY, searched(draw)):
            held[effect.value] += effect.low <= {"v1": 1.3, "none": 2.0, "conv1x1": 1.0}[effect.value] <= effect.high
    for count in held.values():  # 95 % with a standard error of 1.26 points: within 3 of them
        assert 0.912 <= count / runs <= 0.988


def test_choices_that_always_went_together_are_left_out() -> None:
    names = (("v2", "identity"), ("v1", "none"))
    trials = [
        trial(n, 10.0 + n % 3, 1.0 + n, net__version=names[n % 2][0], net__shortcut=names[n % 2][1], train__lr=0.1 + n)
        for n in range(20)
    ]
    assert effects.effects(SUMMARY, trials) == []


def test_too_few_trials_have_no_effects() -> None:
    assert effects.effects(SUMMARY, []) == []
    few = [trial(n, 10.0 + n, net__version=("v1", "v2")[n % 2], train__lr=0.1 * (n + 1)) for n in range(4)]
    assert effects.effects(SUMMARY, few) == []


def test_a_figure_says_which_side_of_1_an_interval_is_on() -> None:
    found = [
        Effect("net.version", "v1", "v2", 1.3, 1.1, 1.5, 8),
        Effect("net.version", "old", "v2", 0.8, 0.7, 0.9, 8),
        Effect("net.shortcut", "none", "identity", 1.1, 0.9, 1.4, 8),
    ]
    figure = ratios(found)
    assert figure is not None
    told = {trace.name: trace.x for trace in figure.data}
    assert told == {"higher error": (1.3,), "lower error": (0.8,), "not told apart": (1.1,)}
    assert figure.layout.yaxis.ticktext == (
        "<b>version, against v2</b>", "v1", "old", "<b>shortcut, against identity</b>", "none",
    )  # fmt: skip
    assert ratios([]) is None
