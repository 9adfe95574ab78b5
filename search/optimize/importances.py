"""Which parameters mattered: fANOVA over a study's trials, compared at one budget."""

from collections.abc import Sequence
from math import isfinite
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial

ENOUGH_TRIALS = 8  # fewer say nothing of more than one parameter
MOST_TRIALS = 200  # ten seconds on two cores; 2,000 take three minutes
MAX_CATEGORIES = 8  # up to so many distinct values a parameter is taken as categories


def importance(study: optuna.Study, first_rung: int, seed: int) -> dict[str, float]:
    """Share of the variance of the error at epoch `first_rung` that each parameter explains, largest first; sum 1.

    All trials that reached `first_rung` count, also those stopped later: the comparison is at equal budget. Optuna's
    own fANOVA drops parameters that some trials lack; here they are kept, with their effect where they apply diluted by
    the trials where they do not. Parameters that never varied are left out. Of more than `MOST_TRIALS` such trials so
    many are drawn by `seed`. {} for fewer than 8 such trials or where all have the same error.

    Source: Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014.
    """
    reached = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if isfinite(trial.intermediate_values.get(first_rung, float("nan")))
    ]
    if len(reached) > MOST_TRIALS:
        reached = Random(seed).sample(reached, MOST_TRIALS)
    errors = [trial.intermediate_values[first_rung] for trial in reached]
    if len(reached) < ENOUGH_TRIALS or len(set(errors)) < 2:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # noqa: PLC0415  scikit-learn: a second

    names = sorted({name for trial in reached for name in trial.params})
    encoded = {name: _encode(name, reached, seed) for name in names}
    space = {name: entry for name, entry in encoded.items() if not entry[1].single()}
    if not space:
        return {}
    rebuilt = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="minimize")
    for index, error in enumerate(errors):
        rebuilt.add_trial(
            optuna.create_trial(
                params={name: values[index] for name, (values, _) in space.items()},
                distributions={name: distribution for name, (_, distribution) in space.items()},
                value=error,
            )
        )
    shares = get_param_importances(rebuilt, evaluator=FanovaImportanceEvaluator(seed=seed))
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return {name: float(share) for name, share in ordered}


def _encode(name: str, trials: Sequence[FrozenTrial], seed: int) -> tuple[list[Any], BaseDistribution]:
    """Each trial's value of one parameter, and one distribution that holds them all.

    A trial without the parameter gets one of the values seen, drawn at random: a value of its own would tell the
    forest which choice makes the parameter apply, and it would be credited with that choice's effect.
    """
    seen = [trial.params[name] for trial in trials if name in trial.params]
    draw = Random(f"{seed} {name}")
    values = [trial.params[name] if name in trial.params else draw.choice(seen) for trial in trials]
    distinct = set(seen)
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in distinct)
    if not numeric or len(distinct) <= MAX_CATEGORIES:
        return values, CategoricalDistribution(sorted(distinct, key=str))
    log = any(getattr(trial.distributions.get(name), "log", False) for trial in trials)
    return [float(value) for value in values], FloatDistribution(float(min(seen)), float(max(seen)), log=log)
