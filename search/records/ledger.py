"""The study's one source of truth: its Optuna storage, and the records of its search and finals in it."""

import math
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from threading import RLock
from typing import Any

import optuna
from optuna.storages import BaseStorage

from search.errors import without_credentials
from search.records.conclusion import Conclusion
from search.records.ends import Course, End, Spent
from search.records.journal import Storage
from search.records.trial import Metrics, Start, TrialRecord, TrialState, now_ms
from search.records.trials import Standings, Trials
from search.spec import Appraisal, Space, TrialSpec, Value

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

    Finals are a study of their own, whose trials are the trainings of finalists: their `curve` holds training errors,
    their value is a test error. Every write is durable before the call returns, and a trial is written whole: with all
    of its parameters, or not at all. One process writes at a time.

    Args:
        storage: see `search.storage`.
        name: of the study in it.
        space: what is searched.
        appraise: what a trial would cost, and whether it is within the limits.
    """

    WEIGHTS, LATENCIES = "weights", "latencies"  # names of what is `found`
    SUFFIX = "/finals"  # of the finals' name in the storage, after that of the search; no study has a / in it

    def __init__(
        self, storage: BaseStorage, name: str, space: Space, appraise: Callable[[TrialSpec], Appraisal]
    ) -> None:
        self._storage, self._space, self._appraise = storage, space, appraise
        sampler = optuna.samplers.RandomSampler()  # asked for nothing: configurations are added whole
        if name in optuna.get_all_study_names(storage):  # opened without a write, so that looking changes nothing
            self.study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        else:
            self.study = optuna.create_study(study_name=name, storage=storage, sampler=sampler, direction="minimize")
        for attribute, value in (("began", now_ms()), ("key", f"{name}-{uuid.uuid4().hex}")):
            if attribute not in self.study.user_attrs:
                self.study.set_user_attr(attribute, value)
        notes = self.study.user_attrs
        self.key = str(notes["key"])  # names this study among all, wherever its runs are tracked
        self.began = int(notes["began"])  # Unix time in ms
        self.numbers: dict[str, int] = notes.get("numbers", {})  # digest -> number of what was compared so far
        self.conclusion = Conclusion.of(notes["conclusion"]) if "conclusion" in notes else None  # as it was last said
        self.provenance: dict[str, str] = notes.get("provenance", {})  # of the last start: see `search.machine`
        self._writing, self._failed = RLock(), False
        self._trials: dict[int, optuna.Trial] = {}  # handles of the trials that this process writes to
        self.standings = Standings()
        self._held: dict[int, int] = {}  # number -> the epoch after which it was held
        for frozen in self.study.get_trials(deepcopy=False):
            self.standings.put(TrialRecord.of(frozen))
            if "held" in frozen.user_attrs:
                self._held[frozen.number] = frozen.user_attrs["held"]
            outcome = frozen.user_attrs.get("outcome")
            if outcome and not frozen.state.is_finished():  # the process died between the writes of `finish`
                self._tell(frozen.number, TrialState(outcome["state"]))

    @property
    def records(self) -> Trials:
        """All trials by number."""
        return Trials(self.standings)

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that were held after their last epoch, and are not over."""
        held = ((self.standings[number], epoch) for number, epoch in self._held.items())
        return frozenset(record.number for record, epoch in held if record.running and record.epochs == epoch)

    @property
    def settled(self) -> Trials:
        """All trials by number, as they are durable: for another thread. None once a write has failed."""
        with self._writing:
            return Trials() if self._failed else self.records

    @contextmanager
    def together(self) -> Generator[None]:
        """Makes what is written while it is entered durable in one write to the disk, when it is left."""
        with self._writing:
            try:
                with self._storage.together() if isinstance(self._storage, Storage) else nullcontext():
                    yield
            except BaseException:
                self._failed = True
                raise

    @property
    def course(self) -> Course:
        """How far it has come, beside its trials."""
        return Course.of(self.study)

    @property
    def spent(self) -> Spent:
        """What it has taken over all starts."""
        return self.course.spent

    def spend(self, more: Spent) -> None:
        """Adds to `spent`."""
        total = self.spent + more
        with self.together():
            self.study.set_user_attr("elapsed", total.seconds)
            if more.gpu_hours:
                self.study.set_user_attr("gpu_hours", total.gpu_hours)
            if more.cost:
                self.study.set_user_attr("cost", dict(total.cost))

    def save_end(self, end: End) -> None:
        """Notes why no further epoch begins."""
        self.study.set_user_attr(End.KEY, asdict(end))

    @property
    def exhausted(self) -> str | None:
        """Why there is nothing left to propose; None as long as there is."""
        return self.course.exhausted

    def exhaust(self, reason: str) -> None:
        """Notes that there is nothing left to propose."""
        self.study.set_user_attr("exhausted", reason)

    @property
    def starts(self) -> tuple[Start, ...]:
        """Configurations that the study begins with."""
        return Start.of(self.study)

    def save_starts(self, starts: Sequence[Start]) -> None:
        """Notes `starts`, once: another study that they come from, or what is known, may change."""
        self.study.set_user_attr(Start.KEY, [asdict(start) for start in starts])

    def found(self, name: str) -> dict[str, Any]:
        """What was found out before the first trial, see `search.study`; empty where nothing was saved."""
        return self.study.user_attrs.get(name, {})

    def save_found(self, name: str, found: Mapping[str, Any]) -> None:
        """Notes it, once: files may change, and another machine is faster."""
        self.study.set_user_attr(name, dict(found))

    def record(self, number: int) -> TrialRecord:
        """One trial."""
        return self.standings[number]

    def add(self, chosen: Mapping[str, Value]) -> Asked | None:
        """A new trial of this configuration, in one write; None, and recorded as infeasible, when beyond the limits."""
        return self._enter(self._space.specify(chosen), chosen, {})

    def enter(self, finalist: int, spec: TrialSpec, measure: str = "error") -> Asked | None:
        """A new training of a finalist, in one write; `spec` has its seed. None where it is beyond the limits.

        `measure`: as of `TrialRecord`.
        """
        return self._enter(spec, {}, {"finalist": finalist, "measure": measure})

    def _enter(self, spec: TrialSpec, chosen: Mapping[str, Value], notes: Mapping[str, Any]) -> Asked | None:
        price = self._appraise(spec)
        number = len(self.standings)
        params = {d.path: chosen[d.path] for d in self._space.dimensions if d.path in chosen}
        attributes: dict[str, Any] = {
            "params": dict(spec.flat()),
            "began": now_ms(),
            "cost": {
                "params": price.params,
                "macs": price.macs,
                "activation_bytes": price.activation_bytes,
                "latency_ms": price.latency_ms,
            },
            **notes,
        }
        if price.reason:
            attributes["outcome"] = _outcome(TrialState.INFEASIBLE, reason=price.reason)
        trial = optuna.create_trial(
            state=optuna.trial.TrialState.FAIL if price.reason else optuna.trial.TrialState.RUNNING,
            params=params,
            distributions={d.path: d.distribution for d in self._space.dimensions if d.path in params},
            user_attrs=attributes,
            constraints=dict(price.excess),
        )
        self.study.add_trial(trial)
        trial.number = number
        self.standings.put(TrialRecord.of(trial))
        return None if price.reason else Asked(number, spec)

    def asked(self, number: int) -> Asked:
        """An open trial as it was asked for, to go on."""
        return Asked(number, self._space.specify(self.standings[number].params))

    def report(self, number: int, epoch: int, error: float, metrics: Metrics) -> None:
        """Records an epoch, once, with the error by which trials are compared (percent; not finite: diverged)."""
        record = self.standings[number]
        if epoch in record.curve:
            return
        error = error if math.isfinite(error) else TrialRecord.WORST
        trial = self._handle(number)
        with self.together():
            trial.set_user_attr(f"epoch:{epoch}", metrics.stored)  # an epoch counts once its error is there, too
            trial.report(error, epoch)
        self.standings.put(record.with_epoch(epoch, error, metrics))

    def conclude(self, conclusion: Conclusion) -> None:
        """Says how the study has ended, or that it goes on. Said again, it is as it was said first."""
        public = replace(conclusion, note=without_credentials(conclusion.note))
        after = public.after(self.conclusion)
        if after != self.conclusion:
            self.study.set_user_attr("conclusion", after.stored)
            self.conclusion = after

    def save_numbers(self, numbers: Mapping[str, int]) -> None:
        """Adds to `numbers`."""
        if not numbers.items() <= self.numbers.items():
            known = self.numbers | dict(numbers)
            self.study.set_user_attr("numbers", known)
            self.numbers = known

    def save_provenance(self, provenance: Mapping[str, str]) -> None:
        """Notes what runs the study from now on."""
        public = {name: without_credentials(text) for name, text in provenance.items()}
        if public != self.provenance:
            self.study.set_user_attr("provenance", public)
            self.provenance = public

    def hold(self, number: int) -> None:
        """Notes that a trial waits after its last epoch. Its next epoch ends that."""
        # Whether it was held cannot be found out later, when more trials have come to compare with.
        epoch = self.standings[number].epochs
        if self._held.get(number) != epoch:
            self._handle(number).set_user_attr("held", epoch)
            self._held[number] = epoch

    def finish(
        self,
        number: int,
        state: TrialState,
        reason: str | None = None,
        traceback: str | None = None,
        weights: str | None = None,
    ) -> None:
        """Ends a trial; a second ending is ignored, so that the first cause stays. Arguments as of `TrialRecord`.

        One that is infeasible though within the limits ran out of memory: a limit that was not known before.
        """
        record = self.standings[number]
        if not record.running:
            return
        outcome = _outcome(state, reason=reason, traceback=traceback, weights=weights)
        with self.together():
            self._handle(number).set_user_attr("outcome", outcome)
            self.standings.put(record.with_outcome(outcome))
            self._tell(number, state)

    def _tell(self, number: int, state: TrialState) -> None:
        if state is TrialState.INFEASIBLE:
            self._handle(number).set_constraint(TrialRecord.MEMORY, 1.0)
            self.standings.put(replace(self.standings[number], violation=1.0, out_of_memory=True))
        values = [self._value(self.standings[number])] if state is TrialState.COMPLETE else None
        self.study.tell(number, values=values, state=_OPTUNA_STATE[state])

    def _value(self, record: TrialRecord) -> float:
        if record.finalist is None:
            return record.curve[record.epochs]
        assert record.test_error is not None  # a complete training has been tested
        return record.test_error

    def _handle(self, number: int) -> optuna.Trial:
        if number not in self._trials:
            identity = self._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)  # pyright: ignore[reportPrivateUsage] - nothing else names it
            self._trials[number] = optuna.trial.Trial(self.study, identity)
        return self._trials[number]


def _outcome(state: TrialState, **texts: str | None) -> dict[str, Any]:
    return {
        "state": state.value,
        "time_ms": now_ms(),
        **{name: without_credentials(text) for name, text in texts.items() if text},
    }
