"""Which parameters mattered: PED-ANOVA over a study's trials, compared at one budget."""

import warnings
from math import isfinite

import optuna
from optuna.distributions import BaseDistribution

ENOUGH_TRIALS = 8  # fewer say nothing of more than one parameter
BEST = 1 / 3  # of the trials are compared with all; a tenth, Optuna's default, is unsteady below some hundred trials
FEWEST_BEST = 5  # as Optuna's documentation asks for


def importance(study: optuna.Study, first_rung: int) -> dict[str, float]:
    """Share of each parameter in what parts the best trials at epoch `first_rung` from all, largest first; sum 1.

    All trials that reached `first_rung` count, also those stopped later: the comparison is at equal budget. The best
    are a third of them, or five where that is more, at most a half. A parameter that only some trials have counts by
    its values where it applies. Parameters that never varied are left out. {} for fewer than 8 such trials or where
    all have the same error.

    Source: Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
    Subspaces", IJCAI 2023.
    """
    reached = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if isfinite(trial.intermediate_values.get(first_rung, float("nan")))
    ]
    if len(reached) < ENOUGH_TRIALS or len({trial.intermediate_values[first_rung] for trial in reached}) < 2:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # noqa: PLC0415  takes a second

    varied = {name for trial in reached for name in trial.params if _varies(name, reached)}
    if not varied:
        return {}
    rebuilt = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="minimize")
    for trial in reached:
        kept: dict[str, BaseDistribution] = {n: d for n, d in trial.distributions.items() if n in varied}
        params = {name: trial.params[name] for name in kept}
        value = trial.intermediate_values[first_rung]
        rebuilt.add_trial(optuna.create_trial(params=params, distributions=kept, value=value))
    best = min(0.5, max(BEST, FEWEST_BEST / len(reached)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a parameter that a single trial has, whose share is 0
        shares = get_param_importances(rebuilt, evaluator=PedAnovaImportanceEvaluator(target_quantile=best))
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return {name: float(share) for name, share in ordered}


def _varies(name: str, trials: list[optuna.trial.FrozenTrial]) -> bool:
    return len({trial.params[name] for trial in trials if name in trial.params}) > 1
