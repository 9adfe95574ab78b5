"""What a report says of a study as a whole: from its specification, and from what its storage notes of its runs."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import optuna
from optuna.storages import BaseStorage

from search.data_spec import PreparedInfo
from search.host import Share
from search.lineage import family
from search.records import Finals, StudySummary, TrialRecord
from search.schedulers import first_rung, make_scheduler
from search.space import Space
from search.study_spec import StudySpec
from search.versions import hardware, versions

_NOTE = "surroundings"  # of the study in its storage


@dataclass(frozen=True)
class Surroundings:
    """On what a study runs. Noted in its storage, so that a report says the same wherever it is made."""

    data: dict[str, Any]  # as `StudySummary.data`
    hardware: str
    versions: dict[str, str]
    holds: dict[str, float]  # cpus and gpus of a trial; {} where that is not known
    finals_hold: dict[str, float]  # of a training of the finals
    began: float  # Unix time of the start that noted them

    @classmethod
    def here(cls, info: PreparedInfo) -> Self:
        """Those of this process."""
        return cls(described(info), hardware(), versions(), {}, {}, time.time())


def described(info: PreparedInfo) -> dict[str, Any]:
    """As `StudySummary.data`."""
    return {
        "name": info.name,
        "classes": list(info.classes),
        "train": info.n_train,
        "validation": info.n_validation,
        "test": info.n_test,
        "shape": list(info.shape),
        "digest": info.digest,
    }


def note(study: optuna.Study, info: PreparedInfo, share: Share, finals: bool = False) -> None:
    """Writes those of this process into the storage, with what a trial, or a training of the finals, holds."""
    before, held = noted(study), {"cpus": share.cpus, "gpus": share.gpus}
    holds, finals_hold = (before.holds, before.finals_hold) if before else ({}, {})
    now = replace(Surroundings.here(info), holds=holds if finals else held, finals_hold=held if finals else finals_hold)
    study.set_user_attr(_NOTE, asdict(now))


def noted(study: optuna.Study) -> Surroundings | None:
    """What the last start of a study has noted; None where nothing was begun."""
    found = study.user_attrs.get(_NOTE)
    return Surroundings(**found) if found else None


def latest(storage: BaseStorage, name: str) -> optuna.Study | None:
    """What the study of this name, which may have been changed, is now: the last begun; None where there is none."""

    def began(study: optuna.Study) -> tuple[float, int]:
        around = noted(study)
        return around.began if around else 0.0, study.user_attrs["generation"]

    return max((s for s in family(storage, name).values() if "generation" in s.user_attrs), key=began, default=None)


def finished(records: Sequence[TrialRecord]) -> int:
    """Trials that are over, but for refused ones and those of the study before it."""
    return sum(not r.running and not r.refused and r.origin is None for r in records)


def spent(spec: StudySpec, elapsed: float) -> bool:
    """Whether the search, after so many seconds, has used up its time budget."""
    return spec.search.time_budget is not None and elapsed >= spec.search.time_budget


def over(spec: StudySpec, records: Sequence[TrialRecord], elapsed: float, exhausted: str | None) -> bool:
    """Whether the search has nothing left to run, as in a study that compares given configurations.

    `exhausted` says why nothing is left to propose.
    """
    if spec.compare:
        return True
    enough = finished(records) >= spec.search.trials or exhausted is not None
    return not any(r.running for r in records) and (enough or spent(spec, elapsed))


def stopped(spec: StudySpec, records: Sequence[TrialRecord], elapsed: float, exhausted: str | None) -> str | None:
    """Why there are fewer trials than were asked for; as `over`."""
    if spec.compare or finished(records) >= spec.search.trials:
        return None
    return f"time budget of {spec.search.time_budget:g} s spent" if spent(spec, elapsed) else exhausted


def summarise(
    spec: StudySpec, space: Space, around: Surroundings, elapsed: float, why: str | None, finals: Finals | None
) -> StudySummary:
    """The study as the report shows it.

    Args:
        spec: as it was asked for.
        space: of `spec`.
        around: on what it ran.
        elapsed: seconds of work, search and finals, over all starts.
        why: there are fewer trials than were asked for.
        finals: None where there are none, or none yet.
    """
    search = spec.search
    return StudySummary(
        name=spec.name,
        description=spec.description,
        data=around.data,
        space={d.path: d.describe() for d in space.dimensions},
        epochs=spec.epochs,
        first_rung=first_rung(make_scheduler(search, spec.epochs), spec.epochs),
        trials=0 if spec.compare else search.trials,
        sampler=search.sampler.value,
        scheduler=search.scheduler.value,
        seed=search.seed,
        elapsed_seconds=elapsed,
        hardware=around.hardware,
        versions=around.versions,
        objectives=search.objectives,
        limits=spec.limits.model_dump(exclude_none=True, exclude_defaults=True),
        stopped=why,
        finals=finals,
        finals_asked=spec.finals.top > 0 or bool(spec.compare),
        holds=around.holds,
        finals_hold=around.finals_hold,
    )
