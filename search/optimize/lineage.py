"""A study that was changed: a new Optuna study beside the one before, from which it takes over what still counts."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage

from search.errors import InputError
from search.optimize.samplers import nearest
from search.records import Environment, Ledger, Owner, TrialRecord, Trials, TrialState
from search.spec import Appraisal, Space, TrialSpec, Value

PASSED_ON = 3  # best trials that a study begins with when none of the trials before it is its own


@dataclass(frozen=True)
class Opened:
    """The ledger of a study, and what its predecessor left to it."""

    ledger: Ledger
    generation: int  # 1 for the first study of this name, then 2, 3 ...: where its trials and events are kept
    starts: tuple[dict[str, Value], ...]  # configurations to begin with

    def __str__(self) -> str:
        """What a changed study goes on with, in a sentence."""
        kept = sum(r.origin is not None for r in self.ledger.records)
        if kept:
            return f"The study was changed: {kept} finished trials of before count in the new search."
        if self.starts:
            return f"The study was changed: no trial of before can count; the best {len(self.starts)} are tried first."
        return "The study was changed: nothing of before counts in the new search."


@dataclass(frozen=True)
class Kept:
    """A trial, and whose checkpoints are its own: those of the trial that it was taken over from, where it was."""

    record: TrialRecord
    generation: int
    number: int  # in that generation


@dataclass(frozen=True)
class Lineage:
    """All that the study of one name has been in a storage: each change of what it searches begins a new Optuna study.

    Args:
        storage: may hold studies of other names, and of others.
        name: of the study.
    """

    storage: BaseStorage
    name: str

    @staticmethod
    def identity(space: Space, data: str, limits: Mapping[str, Any]) -> str:
        """Eight hexadecimal digits that name what is searched: equal for equal spaces, fixed values, data, limits."""
        dimensions = {
            d.path: [optuna.distributions.distribution_to_json(d.distribution), d.when] for d in space.dimensions
        }
        whole = {"space": dimensions, "fixed": dict(space.fixed), "data": data, "limits": dict(limits)}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:8]

    @property
    def studies(self) -> dict[str, optuna.Study]:
        """Name in the storage -> study, of any owner."""
        pattern = rf"{re.escape(self.name)}-[0-9a-f]{{8}}"
        names = (n for n in optuna.get_all_study_names(self.storage) if re.fullmatch(pattern, n))
        studies = (optuna.load_study(study_name=n, storage=self.storage) for n in names)
        return {study.study_name: study for study in studies if "owner" in study.user_attrs}

    def owned(self, owner: Owner) -> dict[str, optuna.Study]:
        """As `studies`, of this owner alone."""
        return {name: study for name, study in self.studies.items() if owner.has(study.user_attrs)}

    def open(self, owner: Owner, which: str, space: Space, appraise: Callable[[TrialSpec], Appraisal]) -> Opened:
        """Opens the study that searches `which`, or makes it.

        A new one begins with all finished trials of the one before it that its own space could have proposed, trained
        for as long and within its limits; where there are none, with the configurations of the best of them.

        Args:
            owner: the study's folder.
            which: part of the name in the storage, so that studies of different spaces are never mixed: `identity`.
            space: what is searched.
            appraise: what a trial would cost, and whether it is within the limits.

        Raises:
            InputError: the storage holds a study of this name that belongs to another folder.
        """
        self.check_owner(owner)
        known = self.studies
        for study in known.values():
            for key, value in (("owner", owner.id), ("place", owner.place)):
                if owner.shared and study.user_attrs[key] != value:
                    study.set_user_attr(key, value)
        own = f"{self.name}-{which}"
        ledger = Ledger(self.storage, own, space, appraise)
        if own not in known:
            ledger.study.set_user_attr("generation", len(known) + 1)
            ledger.study.set_user_attr("place", owner.place)
            ledger.study.set_user_attr("owner", owner.id)
        notes = ledger.study.user_attrs
        if "starts" not in notes:  # written last: a process that died before it takes over the rest when it comes again
            older = [s for s in known.values() if s.user_attrs["generation"] < notes["generation"]]
            before = max(older, key=lambda s: s.user_attrs["generation"], default=None)
            ledger.study.set_user_attr("starts", _take_over(ledger, before, space) if before else [])
        notes = ledger.study.user_attrs
        return Opened(ledger, notes["generation"], tuple(notes["starts"]))

    def check_owner(self, owner: Owner) -> None:
        """Refuses a storage in which the study is another's.

        Raises:
            InputError: it belongs to another folder.
        """
        for study in self.studies.values():
            if not owner.has(study.user_attrs):
                raise InputError(
                    f"study {self.name!r} in this storage belongs to {study.user_attrs['place']}; use another --name, "
                    "or the --output of that one"
                )

    def keys(self) -> dict[int, str]:
        """Generation -> key."""
        return {s.user_attrs["generation"]: s.user_attrs["key"] for s in self.studies.values()}

    def trials_of(self, study: optuna.Study) -> list[Kept]:
        """The trials by number of one of its studies. Nothing is written."""
        known = self.studies
        return [_kept(known, study, trial) for trial in study.get_trials(deepcopy=False)]

    def count_finished(self, owner: Owner) -> int:
        """How many trials of this owner are over, those taken over counted once."""
        return sum(Trials.of(study).finished for study in self.owned(owner).values())

    def delete(self, owner: Owner) -> None:
        """Deletes the studies of this owner."""
        every = optuna.get_all_study_names(self.storage)
        for name in self.owned(owner):
            for one in (name + Ledger.SUFFIX, name):
                if one in every:
                    optuna.delete_study(study_name=one, storage=self.storage)

    def latest(self) -> optuna.Study | None:
        """What the study, which may have been changed, is now: the last begun; None where there is none."""

        def began(study: optuna.Study) -> tuple[float, int]:
            environment = Environment.of(study)
            return environment.began if environment else 0.0, study.user_attrs["generation"]

        return max((s for s in self.studies.values() if "generation" in s.user_attrs), key=began, default=None)


def _kept(known: Mapping[str, optuna.Study], study: optuna.Study, trial: optuna.trial.FrozenTrial) -> Kept:
    record, number = TrialRecord.of(trial), trial.number
    while "origin" in trial.user_attrs:
        origin = trial.user_attrs["origin"]
        study, number = known[origin["study"]], origin["number"]
        trial = study.get_trials(deepcopy=False)[number]
    return Kept(record, study.user_attrs["generation"], number)


def _take_over(ledger: Ledger, before: optuna.Study, space: Space) -> list[dict[str, Value]]:
    """Takes over what is valid; where nothing is, says which configurations to begin with."""
    done = {frozen.number: frozen for frozen in before.get_trials(deepcopy=False) if frozen.state.is_finished()}
    for number, frozen in done.items():
        if TrialRecord.of(frozen).curve and not any(r.origin == number for r in ledger.records):
            ledger.take_over(frozen, before.study_name)
    if any(r.origin is not None for r in ledger.records):
        return []
    complete = [r for r in map(TrialRecord.of, done.values()) if r.state is TrialState.COMPLETE]
    best = sorted(complete, key=lambda r: (r.curve[r.epochs], r.number))[:PASSED_ON]
    return [dict(nearest(space, record.params)) for record in best]
