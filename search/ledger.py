"""The study's one source of truth: its Optuna storage. Everything else (Tune, MLflow, the report) follows from it."""

import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.storages import BaseStorage

from search.ledger_read import MEMORY, read, with_epoch
from search.limits import Appraisal
from search.records import WORST, TrialRecord, TrialState
from search.space import Space
from search.spec import TrialSpec, Value
from search.standings import Standings

optuna.logging.set_verbosity(optuna.logging.WARNING)

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
    """Trials of one study in durable Optuna storage; opening the same storage continues the same study.

    Every write is durable before the call returns, and a trial is written whole: with all of its parameters, or not at
    all. One process writes at a time.

    Args:
        storage: see `search.storage`.
        name: of the study in it.
        space: what is searched.
        appraise: what a trial would cost, and whether it is within the limits.
    """

    def __init__(
        self, storage: BaseStorage, name: str, space: Space, appraise: Callable[[TrialSpec], Appraisal]
    ) -> None:
        self._storage, self._space, self._appraise = storage, space, appraise
        sampler = optuna.samplers.RandomSampler()  # asked for nothing: configurations are added whole
        if name in optuna.get_all_study_names(storage):  # opened without a write, so that looking changes nothing
            self.study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        else:
            self.study = optuna.create_study(study_name=name, storage=storage, sampler=sampler, direction="minimize")
        if "key" not in self.study.user_attrs:
            self.study.set_user_attr("key", f"{name}-{uuid.uuid4().hex}")
        self._trials: dict[int, optuna.Trial] = {}  # handles of the trials that this process writes to
        self.standings = Standings()
        self._held: dict[int, int] = {}  # number -> the epoch after which it was held
        for frozen in self.study.get_trials(deepcopy=False):
            self.standings.put(read(frozen))
            if "held" in frozen.user_attrs:
                self._held[frozen.number] = frozen.user_attrs["held"]
            outcome = frozen.user_attrs.get("outcome")
            if outcome and not frozen.state.is_finished():  # the process died between the writes of `finish`
                self._tell(frozen.number, TrialState(outcome["state"]))

    @property
    def records(self) -> list[TrialRecord]:
        """All trials by number."""
        return list(self.standings)

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that were held after their last epoch, and are not over."""
        held = ((self.standings[number], epoch) for number, epoch in self._held.items())
        return frozenset(record.number for record, epoch in held if record.running and record.epochs == epoch)

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

    @property
    def exhausted(self) -> str | None:
        """Why there is nothing left to propose; None as long as there is."""
        return self.study.user_attrs.get("exhausted")

    def exhaust(self, reason: str) -> None:
        """Notes that there is nothing left to propose."""
        self.study.set_user_attr("exhausted", reason)

    def with_run_ids(self, run_ids: Mapping[int, str]) -> list[TrialRecord]:
        """All trials, with the ids of their MLflow runs."""
        return [replace(r, mlflow_run_id=run_ids.get(r.number)) for r in self.records]

    def record(self, number: int) -> TrialRecord:
        """One trial."""
        return self.standings[number]

    def add(self, chosen: Mapping[str, Value]) -> Asked | None:
        """A new trial of this configuration, in one write; None, and recorded as infeasible, when beyond the limits."""
        return self._enter(self._space.specify(chosen), chosen, {})

    def _enter(self, spec: TrialSpec, chosen: Mapping[str, Value], notes: Mapping[str, Any]) -> Asked | None:
        price = self._appraise(spec)
        number = len(self.standings)
        params = {d.path: chosen[d.path] for d in self._space.dimensions if d.path in chosen}
        attributes: dict[str, Any] = {
            "params": dict(spec.flat()),
            "cost": {"params": price.params, "macs": price.macs, "activation_bytes": price.activation_bytes},
            **notes,
        }
        if price.reason:
            attributes["outcome"] = {"state": TrialState.INFEASIBLE.value, "reason": price.reason}
        trial = optuna.create_trial(
            state=optuna.trial.TrialState.FAIL if price.reason else optuna.trial.TrialState.RUNNING,
            params=params,
            distributions={d.path: d.distribution for d in self._space.dimensions if d.path in params},
            user_attrs=attributes,
            constraints=dict(price.excess),
        )
        self.study.add_trial(trial)
        trial.number = number
        self.standings.put(read(trial))
        return None if price.reason else Asked(number, spec)

    def take_over(self, frozen: optuna.trial.FrozenTrial, study: str) -> bool:
        """Copies a finished trial of another study of this storage, if the space could have proposed it, in one write.

        It must be the same trial to the last field, trained for as long, and within the limits.
        """
        params = self._space.parameters(frozen.user_attrs["params"])
        if params is None:
            return False
        spec = self._space.specify({**self._space.fixed, **params})
        price = self._appraise(spec)
        if dict(spec.flat()) != frozen.user_attrs["params"] or price.reason:
            return False
        copy = optuna.create_trial(
            state=frozen.state,
            values=frozen.values,
            params=params,
            distributions={d.path: d.distribution for d in self._space.dimensions if d.path in params},
            user_attrs={**frozen.user_attrs, "origin": {"study": study, "number": frozen.number}},
            intermediate_values=frozen.intermediate_values,
            constraints=dict(price.excess),
        )
        self.study.add_trial(copy)
        copy.number = len(self.standings)
        self.standings.put(read(copy))
        return True

    def asked(self, number: int) -> Asked:
        """An open trial as it was asked for, to go on."""
        return Asked(number, self._space.specify(self.standings[number].params))

    def report(self, number: int, epoch: int, val_error: float, seconds: float, images_per_s: float) -> None:
        """Notes the error by which trials are compared (percent; NaN: diverged) and the speed of an epoch, once."""
        record = self.standings[number]
        if epoch in record.curve:
            return
        error = val_error if math.isfinite(val_error) else WORST
        speed = {"seconds": seconds, "images_per_s": images_per_s}
        trial = self._handle(number)
        trial.set_user_attr(f"epoch:{epoch}", speed)
        trial.report(error, epoch)
        self.standings.put(with_epoch(record, epoch, error, speed))

    def hold(self, number: int) -> None:
        """Notes that a trial waits after its last epoch. Its next epoch ends that."""
        # Whether it was held cannot be found out later, when more trials have come to compare with.
        epoch = self.standings[number].epochs
        if self._held.get(number) != epoch:
            self._handle(number).set_user_attr("held", epoch)
            self._held[number] = epoch

    def finish(self, number: int, state: TrialState, reason: str | None = None) -> None:
        """Ends a trial; a second ending is ignored, so that the first cause stays.

        One that is infeasible though within the limits ran out of memory: a limit that was not known before.
        """
        record = self.standings[number]
        if not record.running:
            return
        self._handle(number).set_user_attr("outcome", {"state": state.value, "reason": reason})
        self.standings.put(replace(record, state=state, reason=reason))
        self._tell(number, state)

    def _tell(self, number: int, state: TrialState) -> None:
        if state is TrialState.INFEASIBLE:
            self._handle(number).set_constraint(MEMORY, 1.0)
            self.standings.put(replace(self.standings[number], violation=1.0, out_of_memory=True))
        values = [self._value(self.standings[number])] if state is TrialState.COMPLETE else None
        self.study.tell(number, values=values, state=_OPTUNA_STATE[state])

    def _value(self, record: TrialRecord) -> float:
        return record.curve[record.epochs]

    def _handle(self, number: int) -> optuna.Trial:
        if number not in self._trials:
            identity = self._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
            self._trials[number] = optuna.trial.Trial(self.study, identity)
        return self._trials[number]
