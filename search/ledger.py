"""The study's one source of truth: its Optuna storage. Everything else (Tune, MLflow, the report) follows from it."""

import hashlib
import json
import math
import os
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from resnet import cost
from search.records import TrialRecord, TrialState
from search.space import Space
from search.spec import TrialSpec

optuna.logging.set_verbosity(optuna.logging.WARNING)

LOCK_FILE_SUFFIX = ".lock"  # of Optuna, beside the journal
WORST = 100.0  # percent: what a diverged trial is worth as evidence
_OPTUNA_STATE = {
    TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    TrialState.DIVERGED: optuna.trial.TrialState.PRUNED,
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
    TrialState.INFEASIBLE: optuna.trial.TrialState.FAIL,
}


@dataclass(frozen=True)
class Asked:
    """A trial that is to run, or to go on: its number in the study and its specification."""

    number: int
    spec: TrialSpec


class Ledger:
    """Trials of one study in durable Optuna storage; opening the same file continues the same study.

    Every write reaches the disk before the call returns (a journal file, synced). One process writes at a time.
    """

    def __init__(self, journal: Path, name: str, space: Space, sampler: str, seed: int, image: tuple[int, int]) -> None:
        self._space, self._sampler, self._seed, self._image = space, sampler, seed, image
        _mend(journal)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        if name in optuna.get_all_study_names(storage):  # opened without a write, so that looking changes nothing
            self.study = optuna.load_study(study_name=name, storage=storage)
        else:
            self.study = optuna.create_study(study_name=name, storage=storage, direction="minimize")
        if "key" not in self.study.user_attrs:
            self.study.set_user_attr("key", f"{name}-{uuid.uuid4().hex}")
        self._trials: dict[int, optuna.Trial] = {}  # handles of the trials that this process asked for or adopted
        self._records: dict[int, TrialRecord] = {}
        for frozen in self.study.get_trials(deepcopy=False):
            self._records[frozen.number] = _record(frozen)
            outcome = frozen.user_attrs.get("outcome")
            if outcome and not frozen.state.is_finished():  # the process died between the two writes of `finish`
                self._tell(frozen.number, TrialState(outcome["state"]))

    @property
    def records(self) -> list[TrialRecord]:
        """All trials by number."""
        return [self._records[number] for number in sorted(self._records)]

    @property
    def key(self) -> str:
        """Names this study among all, wherever its runs are tracked."""
        return str(self.study.user_attrs["key"])

    @property
    def elapsed(self) -> float:
        """Seconds of work that earlier processes spent on the study."""
        return float(self.study.user_attrs.get("elapsed", 0.0))

    def add_elapsed(self, seconds: float) -> None:
        """Adds to `elapsed`."""
        self.study.set_user_attr("elapsed", self.elapsed + seconds)

    def with_run_ids(self, run_ids: Mapping[int, str]) -> list[TrialRecord]:
        """All trials, with the ids of their MLflow runs."""
        return [replace(r, mlflow_run_id=run_ids.get(r.number)) for r in self.records]

    def record(self, number: int) -> TrialRecord:
        """One trial."""
        return self._records[number]

    def ask(self) -> Asked:
        """A new trial, with the proposal of a sampler that depends on the seed and the trial's number alone."""
        number = len(self._records)
        self.study.sampler = make_sampler(self._sampler, self._seed, number)
        trial = self.study.ask()
        return self._specify(trial)

    def adopt(self) -> list[Asked]:
        """Trials that were running when an earlier process ended, with the parameters they had."""
        frozen = [t for t in self.study.get_trials(deepcopy=False) if not t.state.is_finished()]
        return [self._specify(self._handle(t)) for t in frozen]

    def report(self, number: int, epoch: int, val_error: float, seconds: float) -> None:
        """Notes the validation error (percent; NaN when it diverged) and the seconds of an epoch, once."""
        record = self._records[number]
        if epoch in record.curve:
            return
        error = val_error if math.isfinite(val_error) else WORST
        trial = self._trials[number]
        trial.set_user_attr(f"seconds:{epoch}", seconds)
        trial.report(error, epoch)
        self._records[number] = replace(
            record, curve={**record.curve, epoch: error}, epochs=epoch, seconds=(record.seconds or 0.0) + seconds
        )

    def finish(self, number: int, state: TrialState, reason: str | None = None) -> None:
        """Ends a trial; a second ending is ignored, so that the first cause stays."""
        record = self._records[number]
        if record.state is not TrialState.RUNNING:
            return
        self._trials[number].set_user_attr("outcome", {"state": state.value, "reason": reason})
        self._tell(number, state)
        self._records[number] = replace(record, state=state, reason=reason)

    def _tell(self, number: int, state: TrialState) -> None:
        values = [self._records[number].curve[self._records[number].epochs]] if state is TrialState.COMPLETE else None
        self.study.tell(number, values=values, state=_OPTUNA_STATE[state])

    def _handle(self, frozen: optuna.trial.FrozenTrial) -> optuna.Trial:
        # With the sampler that it was first asked with, for parameters that were not yet drawn when the process died.
        self.study.sampler = make_sampler(self._sampler, self._seed, frozen.number)
        return optuna.trial.Trial(self.study, frozen._trial_id)

    def _specify(self, trial: optuna.Trial) -> Asked:
        self._trials[trial.number] = trial
        spec = self._space.suggest(trial)
        if trial.number not in self._records or self._records[trial.number].params_count is None:
            price = cost(spec.net, self._image)
            trial.set_user_attr("spec", spec.model_dump(mode="json"))
            trial.set_user_attr("cost", {"params": price.params, "macs": price.macs})
            self._records[trial.number] = TrialRecord(
                trial.number, TrialState.RUNNING, dict(spec.flat()), 0, params_count=price.params, macs=price.macs
            )
        return Asked(trial.number, spec)


def make_sampler(kind: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    # A sampler of its own for each trial: the proposal then follows from the storage, and a continued study goes on
    # as if it had not stopped.
    digest = hashlib.sha256(f"{seed},{number}".encode()).digest()
    own = int.from_bytes(digest[:4], "big") >> 1
    match kind:
        case "tpe":
            with warnings.catch_warnings():  # `group` is what models conditional parameters, and is called experimental
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.TPESampler(seed=own, multivariate=True, group=True)
        case "random":
            return optuna.samplers.RandomSampler(seed=own)
        case _:
            raise ValueError(f"unknown sampler {kind}")


def _mend(journal: Path) -> None:
    """Removes what a process that was killed while it wrote left: Optuna's lock, and a line cut off in the middle."""
    # Optuna would wait 30 s for the lock, and without end where the path of the journal is relative.
    journal.with_name(journal.name + LOCK_FILE_SUFFIX).unlink(missing_ok=True)
    if journal.exists():
        data = journal.read_bytes()
        os.truncate(journal, data.rfind(b"\n") + 1)  # the next line would be glued to it, and both unreadable


def _record(frozen: optuna.trial.FrozenTrial) -> TrialRecord:
    attributes: dict[str, Any] = frozen.user_attrs
    spec, price, outcome = (attributes.get(key) for key in ("spec", "cost", "outcome"))
    curve = {int(epoch): float(value) for epoch, value in frozen.intermediate_values.items()}
    state = TrialState(outcome["state"]) if outcome else TrialState.RUNNING
    seconds = sum(float(v) for k, v in attributes.items() if k.startswith("seconds:") and int(k[8:]) in curve)
    return TrialRecord(
        number=frozen.number,
        state=state,
        params=dict(TrialSpec.model_validate(json.loads(json.dumps(spec))).flat()) if spec else {},
        epochs=max(curve, default=0),
        curve=curve,
        reason=outcome["reason"] if outcome else None,
        params_count=price["params"] if price else None,
        macs=price["macs"] if price else None,
        seconds=seconds if curve else None,
    )
