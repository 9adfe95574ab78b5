"""A study in its storage: whose it is, what it searches, and where the records of its search and finals are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage

from search.errors import InputError
from search.records.folder import Owner
from search.records.ledger import Ledger
from search.records.trials import Trials
from search.spec import Appraisal, LatencySpec, PreparedInfo, Space, StudySpec, TrialSpec


def _identity(spec: StudySpec, space: Space, info: PreparedInfo) -> dict[str, str]:
    """What makes a study the one that it is, in words by its key: data, space, training, limits, error and seed.

    A value that is searched nowhere counts as fixed, at its default where none is given.
    """
    searched = {d.path: d.describe() for d in space.dimensions}
    networks = {path: searched.get(path) or _word(TrialSpec.default(path, space.fixed)) for path in TrialSpec.paths()}
    data = {f"data.{key}": _word(value) for key, value in spec.data.model_dump(exclude={"dir"}).items()}
    limits = {f"limits.{key}": _word(value) for key, value in spec.limits.model_dump().items()}
    digest = {"the digest of the images": info.digest[:12]}
    error = {"search.objectives[0]": spec.search.objectives[0].value}  # by which trials are compared
    timed = {f"latency.{key}": _word(getattr(spec.latency, key, None)) for key in LatencySpec.model_fields}
    return {**data, **digest, **networks, **limits, **error, **timed, "search.seed": str(spec.search.seed)}


def _word(value: Any) -> str:
    if isinstance(value, bool | None):
        return str(value)
    try:
        return f"{float(value):.15g}"  # of a number that is spelled as a word, too
    except ValueError:
        return str(value)


@dataclass(frozen=True)
class StoredStudy:
    """The study `name` in a storage, which may hold others, of this folder's owner or of somebody else."""

    storage: BaseStorage
    name: str

    @property
    def search(self) -> optuna.Study | None:
        """Its search; None where it has not begun."""
        known = self.name in self._owned()
        return optuna.load_study(study_name=self.name, storage=self.storage) if known else None

    def open(
        self,
        owner: Owner,
        spec: StudySpec,
        space: Space,
        info: PreparedInfo,
        appraise: Callable[[TrialSpec], Appraisal],
    ) -> Ledger:
        """Opens the records of its search, or begins them. What it searches may change as long as it has no trial.

        Args:
            owner: the study's folder.
            spec: what is asked.
            space: of `spec`.
            info: of the prepared data.
            appraise: what a trial would cost, and whether it is within the limits.

        Raises:
            InputError: it belongs to another folder, or searches something else.
        """
        self.check_owner(owner)
        asked = _identity(spec, space, info)
        ledger = Ledger(self.storage, self.name, space, appraise)
        notes = {"identity": asked, "owner": owner.id, "place": owner.place}
        if self.has_trials():
            self._check_same(ledger.study.user_attrs["identity"], asked, owner)
            del notes["identity"]
        for key, value in notes.items():
            known = ledger.study.user_attrs
            if key not in known or (known[key] != value and (owner.shared or key == "identity")):
                ledger.study.set_user_attr(key, value)
        return ledger

    def check_owner(self, owner: Owner) -> None:
        """Refuses a storage in which the study is another's, or in which the folder's study has another name.

        Raises:
            InputError: that is so.
        """
        for name, notes in self._owned().items():
            if name == self.name and not owner.has(notes):
                raise InputError(
                    f"study {name!r} in this storage belongs to {notes['place']}; use another --name, or the "
                    "--output of that one"
                )
            if name != self.name and owner.has(notes):
                raise InputError(
                    f"name = {self.name!r}, but {owner.place} is of the study {name!r}; give that folder its name "
                    "back, or use another --name"
                )

    def finished(self, owner: Owner) -> int:
        """How many trials of this owner are over."""
        search = self.search
        return Trials.of(search).finished if search is not None and owner.has(search.user_attrs) else 0

    def delete(self, owner: Owner) -> None:
        """Deletes the study where it is this owner's."""
        search = self.search
        if search is None or not owner.has(search.user_attrs):
            return
        for name in self._names():
            optuna.delete_study(study_name=name, storage=self.storage)

    def _owned(self) -> dict[str, dict[str, Any]]:
        """Name -> attributes of each search in the storage; one without an owner was just made, and holds nothing."""
        every = optuna.get_all_study_summaries(self.storage, include_best_trial=False)
        return {one.study_name: one.user_attrs for one in every if "owner" in one.user_attrs}

    def _names(self) -> list[str]:
        """Of its finals and its search, as far as they have begun."""
        every = optuna.get_all_study_names(self.storage)
        return [name for name in (self.name + Ledger.SUFFIX, self.name) if name in every]

    def has_trials(self) -> bool:
        """Whether its search or its finals have begun to train."""
        studies = (optuna.load_study(study_name=name, storage=self.storage) for name in self._names())
        return any(study.get_trials(deepcopy=False) for study in studies)

    def _check_same(self, known: Mapping[str, str], asked: Mapping[str, str], owner: Owner) -> None:
        changed = [key for key, value in known.items() if asked.get(key) != value]
        if not changed:
            return
        first, *others = changed
        also = f" (also changed: {', '.join(others)})" if others else ""
        raise InputError(
            f"{first} = {asked.get(first)}, but study {self.name!r} in {owner.place} was begun with {known[first]}"
            f"{also}; give the changed study another --name (start: {{study: {self.name}}} begins it with the best "
            "trials of this one), or begin this one again with --fresh"
        )
