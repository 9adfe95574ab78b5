"""What a study's journal says, read by Optuna alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


@dataclass(frozen=True)
class Reported:
    """One epoch on record."""

    number: int  # of the trial; in the finals of the finalist
    seed: int | None  # of its training in the finals
    epoch: int
    time_ms: int
    metrics: dict[str, float]


def studies(folder: Path) -> dict[str, optuna.Study]:
    """What is in the journal of a study's folder, by name; nothing while there is none."""
    journal = folder / "optuna.journal"
    if not journal.exists():
        return {}
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return {name: optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)}


def trials(folder: Path, finals: bool = False) -> list[optuna.trial.FrozenTrial]:
    """Those of its search, or the trainings of its finals, by number."""
    found = [s.get_trials(deepcopy=False) for name, s in studies(folder).items() if name.endswith("/finals") is finals]
    return [trial for of_one in found for trial in of_one]


def reported(folder: Path) -> list[Reported]:
    """Every epoch on record, of the search and of the finals."""
    told: list[Reported] = []
    for finals in (False, True):
        for trial in trials(folder, finals):
            seed = trial.user_attrs["params"]["train.seed"] if finals else None
            for epoch in sorted(trial.intermediate_values):
                one = trial.user_attrs[f"epoch:{epoch}"]
                values = {name: float(value) for name, value in one["values"].items()}
                number = trial.user_attrs.get("finalist", trial.number)
                told.append(Reported(number, seed, epoch, one["time_ms"], values))
    return told


def conclusion(folder: Path) -> dict[str, Any] | None:
    """How it has ended, as it was last said."""
    said = [study.user_attrs.get("conclusion") for study in studies(folder).values()]
    return next(filter(None, said), None)
