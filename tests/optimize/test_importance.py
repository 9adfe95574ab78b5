"""Importances of parameters whose effect is known because the errors were made from them."""

import subprocess
import sys
from random import Random

import optuna
import pytest

from search.optimize import importance


def study(effects: dict[str, float], trials: int = 40, bias_effect: float = 0.0) -> optuna.Study:
    """Error at epoch 3 = 20 + the shortcut's effect + that of the gate's bias; half of the trials are pruned there."""
    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    draw = Random(0)
    for index in range(trials):
        trial = made.ask()
        shortcut = trial.suggest_categorical("net.shortcut", list(effects))
        trial.suggest_categorical("net.depth", [8, 14, 20])
        trial.suggest_float("train.lr", 0.01, 1.0, log=True)
        trial.suggest_categorical("net.unit", ["basic"])
        bias = trial.suggest_float("net.gate_bias", -6.0, 0.0) if shortcut == "exclusive_gate" else -3.0
        for epoch in (1, 2, 3):
            trial.report(60 / epoch + effects[shortcut] + bias_effect * (bias + 3.0) + 0.1 * draw.random(), epoch)
        # a pruned trial's later error must not count: it is far off here
        if index % 2:
            trial.report(1000.0 * draw.random(), 4)
            made.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            made.tell(trial, 1000.0 * draw.random())
    return made


EFFECTS = {"identity": 0.0, "conv1x1": 10.0, "exclusive_gate": 20.0}


@pytest.mark.parametrize(("trials", "least"), [(20, 0.5), (40, 0.5), (300, 0.9)])
def test_the_parameter_that_made_the_errors_is_found(trials: int, least: float) -> None:
    shares = importance(study(EFFECTS, trials), first_rung=3)
    assert next(iter(shares)) == "net.shortcut"
    assert shares["net.shortcut"] > least
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares.keys() == {"net.shortcut", "net.depth", "train.lr", "net.gate_bias"}  # the unit never varied
    assert all(type(share) is float for share in shares.values())


def test_a_conditional_parameter_is_kept_and_gets_its_own_effect_only() -> None:
    strong = importance(study(dict.fromkeys(EFFECTS, 0.0), trials=80, bias_effect=5.0), first_rung=3)
    assert next(iter(strong)) == "net.gate_bias"
    idle = importance(study(EFFECTS), first_rung=3)
    assert idle["net.gate_bias"] < 0.05  # which shortcut has it says much of the error, its value nothing


def test_too_little_says_nothing() -> None:
    assert importance(study(EFFECTS, trials=7), first_rung=3) == {}
    assert importance(study(EFFECTS, trials=8), first_rung=9) == {}, "nobody reached epoch 9"
    equal = optuna.create_study()
    assert importance(equal, first_rung=1) == {}
    for index in range(20):
        trial = equal.ask({"train.lr": optuna.distributions.FloatDistribution(0.01, 1.0)})
        trial.report(5.0 if index < 10 else float("nan"), 1)
        equal.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert importance(equal, first_rung=1) == {}, "equal or missing errors"


def test_whoever_starts_a_study_does_not_wait_for_scikit_learn() -> None:
    program = "import sys; import search.study.handle; print({'sklearn', 'scipy.stats', 'plotly'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
