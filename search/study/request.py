"""What is asked for: a study by its name, file, mapping or specification, and what is changed in it by a word."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from search import spec
from search.errors import InputError, hint
from search.spec import find, shipped
from search.storage import Output, layout

if TYPE_CHECKING:
    from search.spec import StudySpec


class Changes(TypedDict, total=False):
    """Keywords that change a study; `KEYS` says what each stands for in its file."""

    name: str | None
    trials: int | str | None
    epochs: int | None
    time_budget: float | str | None  # seconds, or 90s, 30m, 2h
    data_dir: str | None
    cpus_per_trial: float | str | None
    gpus_per_trial: float | str | None
    max_concurrent: int | str | None
    seed: int | str | None
    sampler: str | None
    scheduler: str | None
    storage: str | None
    tracking_uri: str | None


KEYS = {  # keyword, or flag -> where it stands in a study
    "name": "name",
    "trials": "search.trials",
    "epochs": "train.epochs",
    "time_budget": "search.time_budget",
    "data_dir": "data.dir",
    "cpus_per_trial": "resources.cpus_per_trial",
    "gpus_per_trial": "resources.gpus_per_trial",
    "max_concurrent": "search.max_concurrent",
    "seed": "search.seed",
    "sampler": "search.sampler",
    "scheduler": "search.scheduler",
    "storage": "search.storage",
    "tracking_uri": "tracking.uri",
}
ENVIRONMENT = {"MLFLOW_TRACKING_URI": "tracking.uri", "MLFLOW_EXPERIMENT_NAME": "tracking.experiment"}


def specify(
    study: "str | Path | Mapping[str, Any] | StudySpec",
    output: Output,
    scale: str | None,
    set: Mapping[str, Any],
    changes: Changes,
) -> "StudySpec":
    """The study that is asked for; `changes` win over `set`, and that over the environment.

    Raises:
        InputError: no such study or change, or one that is not valid.
    """
    asked = changed(set, changes)
    name = dict(asked).get("name")
    if isinstance(study, spec.StudySpec):
        return spec.load(study.model_dump(mode="json"), asked, scale)
    if isinstance(study, Mapping):
        if not (name or "name" in study):
            raise InputError(f"study = {dict(study)!r} has no name; give it one")
        return spec.load({"name": name, **study}, asked, scale)
    study = str(study)
    by_name = study not in shipped() and Path(study).suffix not in (".yaml", ".yml")
    kept = output.file(str(name or study), layout.STUDY_FILE) if by_name else None
    return spec.load(kept or find(study), asked, scale)


def changed(set: Mapping[str, Any], changes: Changes) -> list[tuple[str, Any]]:
    """(Key of the study, value), the weaker first: environment, `set`, `changes`.

    Raises:
        InputError: a keyword that is none.
    """
    for name in changes:
        if name not in KEYS:
            raise InputError(f"{name} changes nothing in a study; {hint(name, list(KEYS))}, or use set={{KEY: VALUE}}")
    environment = [(key, os.environ[name]) for name, key in ENVIRONMENT.items() if os.environ.get(name)]
    return [*environment, *set.items(), *((KEYS[n], value) for n, value in changes.items() if value is not None)]
