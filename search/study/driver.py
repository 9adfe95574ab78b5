"""What runs a study in its folder: opens what it consists of, continues or begins it again, and concludes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rich.console import Console

from search import export, machine, report
from search.activity import Activity
from search.data import Prepared
from search.errors import InputError, without_credentials
from search.execution import Interrupt, Recorder, Session
from search.export import graphs
from search.optimize import (
    FinalPlan,
    FormerBest,
    best_of_former,
    final_ledger,
    importance,
    plan_finals,
    plan_search,
    tried_first,
)
from search.records import (
    Champion,
    Conclusion,
    Environment,
    Finalist,
    Finals,
    Ledger,
    Metrics,
    Spent,
    StoredStudy,
    StudyFolder,
    StudySummary,
    Trials,
    answering,
    open_storage,
)
from search.spec import Appraisal, LimitSpec, Space, StudySpec, TrialSpec, appraise
from search.storage import Output, files
from search.study.latencies import Latencies, measure, networks
from search.study.reader import predictions, summarise
from search.study.weights import Weights, find
from search.tracking import Mirror, Source, Store, tested


@dataclass(frozen=True)
class Result:
    """How a study that was run, or sent to MLflow, has ended; a notebook shows the answer."""

    answer: str  # Markdown
    interrupted: bool  # the study is not complete: run again, it continues
    worked: bool  # at least one trial has a result
    unsent: str | None  # why the tracking server has not taken everything
    trouble: str | None = None  # why the champion was not exported
    reached: str = ""  # how far it is, in words
    new_champion: bool = False  # it was another before, or none

    @property
    def sentence(self) -> str:
        """The first of the answer."""
        return self.answer.strip().partition("\n")[0]

    def _repr_markdown_(self) -> str:
        return self.answer


@dataclass
class Driver:
    """One study in its folder, with everything that it consists of opened.

    Args:
        spec: resolved and checked.
        space: of `spec`, over the prepared data.
        data: prepared.
        folder: locked by this process.
        store: where MLflow keeps the runs.
        output: where it is kept, beside other studies.
        trials_of: the trials of another study beside this one, by its name.
        activity: is told what takes time.
    """

    spec: StudySpec
    space: Space
    data: Prepared
    folder: StudyFolder
    store: Store
    output: Output
    trials_of: Callable[[str], Trials]
    activity: Activity

    def __post_init__(self) -> None:
        spec, info = self.spec, self.data.info
        self._storage = open_storage(self.folder.journal, spec.search.storage, self.folder.forced)
        owner = self.folder.owner(shared=spec.search.storage is not None)
        stored = StoredStudy(self._storage, spec.name)
        ledger = stored.open(owner, spec, self.space, info, self._appraise)
        self.folder.bind(ledger.key, begun=bool(ledger.records))
        if not stored.has_trials():
            self._prepare(ledger)
        self.weights = Weights.of(ledger.found(Ledger.WEIGHTS))
        self.latencies = Latencies.of(ledger.found(Ledger.LATENCIES), spec)
        self._able = self.weights.narrowed(self.space)
        self.former = [] if ledger.records else self._begin(ledger)
        export.mend(self.folder.path / export.CHAMPION)
        files.sweep(self.folder.path)
        self.search = plan_search(spec, self._able, ledger)
        self._final_ledger = self._open_finals()
        source = Source(spec, info, self.folder.place, ledger, lambda: self._final_ledger)
        self.mirror = Mirror(source, self.store, self.folder.path, self.folder.forced)

    @property
    def ledger(self) -> Ledger:
        """The records of its search."""
        return self.search.ledger

    @property
    def finals(self) -> FinalPlan:
        """The plan of its finals; who takes part is known once the search is over."""
        spent = self.ledger.spent
        return plan_finals(self.spec, self._final_ledger, self.ledger.records, self.data.info.summary, spent)

    @property
    def finished(self) -> int:
        """Trials that are over."""
        return self.search.finished

    @property
    def spent(self) -> Spent:
        """On this study, over all starts."""
        return self.ledger.spent + (self._final_ledger.spent if self.search.is_complete else Spent())

    @property
    def complete(self) -> bool:
        """True when nothing is left to run."""
        return self.search.is_complete and self.finals.is_complete

    @property
    def reached(self) -> str:
        """How far it is, in words."""
        if self.search.is_complete:
            return f"{self.finals.finished} trainings of the finals"
        return f"{self.finished} of {self.spec.search.trials} trials"

    def announcement(self, place: str) -> str:
        """What is about to be run, or is complete, in the folder or at the URL `place`."""
        name, wanted, done, seeds = self.spec.name, self.spec.search.trials, self.finished, self.spec.finals.seeds
        if self.spec.compare:
            rows = f"{len(self.spec.compare)} configurations"
            if self.complete:
                return f"{name}: complete, {self.finals.finished} trainings of {rows} in {place}"
            if self.finals.finished:
                return f"{name}: continued after {self.finals.finished} trainings of {rows} in {place}"
            return f"{name}: {rows}, {seeds} seeds, {self.spec.epochs} epochs each, in {place}"
        if self.complete:
            more = self.search.stop_reason or f"for more of them: --trials {2 * done}"
            return f"{name}: complete, {done} trials in {place}; {more}"
        if self.search.is_complete:
            return f"{name}: its finals are continued after {done} trials in {place}"
        if done:
            return f"{name}: continued after {done} of {wanted} trials in {place}"
        return f"{name}: {wanted} trials of up to {self.spec.epochs} epochs, in {place}"

    def concluded(self) -> Result | None:
        """The outcome of a study of which nothing is left to do, not even to send; None where something is."""
        summary = self.summary()
        reported = self.complete and report.is_of(self.folder.path, summary)
        if not reported or self.mirror.unsent or self.mirror.behind():
            return None
        answer, worked = report.short_answer(summary, self.ledger.records), self._worked(summary)
        finals, said = summary.finals, self.ledger.conclusion  # said once the champion is exported
        if said is None or (said.state, said.note) != (_state(worked), without_credentials(answer)):
            return None
        if self._done(finals) not in said.metrics or not (finals is None or self._is_crowned(finals, said)):
            return None
        return Result(answer, False, worked, None, reached=self.reached)

    def run(self, console: Console) -> Result:
        """Runs what is left, writes the report and hands it to MLflow.

        Raises:
            Halted: the disk is full or cannot be written, or the storage went away.
        """
        interrupt = Interrupt()
        with answering(self.spec.search.storage):
            said = self.ledger.conclusion
            if said is not None and not self.complete:
                self.ledger.conclude(replace(said, state="running"))
            if not self.complete:
                self.ledger.save_provenance(machine.provenance())
            self.mirror.start()
            try:
                if not self.complete:
                    self._train(console, interrupt)
                self.activity.begin("writing the report" if interrupt.requested else "writing report and champion")
                return self._conclude(interrupt.requested, patient=not interrupt.requested)
            finally:
                self.mirror.close()

    def sync(self) -> Result:
        """Sends what MLflow lacks, and writes what the end lacks."""
        self.mirror.start()
        try:
            return self._conclude(interrupted=not self.complete)
        finally:
            self.mirror.close()

    def _train(self, console: Console, interrupt: Interrupt) -> None:
        self.activity.begin("starting Ray")
        with Session.connected(self.spec, self.data, self.ledger, interrupt, self.activity) as session:
            if not self.search.is_complete:
                session.run(Recorder(self.search, self.folder.trials, self._start), console)
            if self.search.is_complete and not (interrupt.requested or self.finals.is_complete):
                self._final_ledger = self._open_finals(create=True)
                session.run(Recorder(self.finals, self.folder.finals, self._start), console)
            self.activity.begin("leaving Ray")

    def _appraise(self, trial: TrialSpec) -> Appraisal:
        priced = self.latencies.appraised(trial, appraise(trial, self.data.info.shape[:2], self.spec.limits))
        return self.weights.appraised(trial, priced)

    def _start(self, trial: TrialSpec) -> str | None:
        """Path or URL of the weights that a trial starts from."""
        kept = self.weights.of_trial(trial)
        return kept and self.folder.weights(kept.sha256)

    def _prepare(self, ledger: Ledger) -> None:
        """Notes what is found out once, before the first trial: the weights to start from, and latencies."""
        spec, info = self.spec, self.data.info
        found = find(spec, info, self.space, self.output, self.folder.keep_weights)
        ledger.save_found(Ledger.WEIGHTS, found.stored)
        timed = measure(spec, networks(spec, self.space, info), info.shape, self.activity)
        ledger.save_found(Ledger.LATENCIES, timed.stored)

    def _begin(self, ledger: Ledger) -> list[FormerBest]:
        """Notes what the study begins with, before its first trial; returns the best of other studies among it."""
        asked = self.spec.formers
        found = [best_of_former(one, self.trials_of(one.study), self._able, self._appraise) for one in asked]
        ledger.save_starts(tried_first(self.spec, self._able, self._appraise, found))
        return found

    def _open_finals(self, create: bool = False) -> Ledger:
        image, name = self.data.info.shape[:2], self.ledger.study.study_name

        def price(trial: TrialSpec) -> Appraisal:
            return self.latencies.appraised(trial, appraise(trial, image, LimitSpec()), limited=False)

        return final_ledger(self._storage, name, price, create)

    def summary(self) -> StudySummary:
        """The study as the report shows it."""
        environment = Environment.of(self.ledger.study) or Environment.here(self.data.info)
        ids = self.mirror.cursor.trials, self.mirror.cursor.seeds
        finals = self.finals.results(*ids) if self.search.is_complete else None
        summary = summarise(self.spec, self.space, environment, self.spent, self.search.stop_reason, finals)
        gain = self.ledger.records.expected_gain(self.ledger.spent.seconds, self.ledger.exhausted)
        return replace(
            summary,
            starts=self.ledger.starts,
            missing_weights=self.weights.missing,
            gain=gain,
            latency=self.latencies.described(self.spec),
        )

    def _conclude(self, interrupted: bool, patient: bool = True) -> Result:
        first = self.mirror.send(patient)
        records, summary = self.ledger.records.with_runs(self.mirror.cursor.trials), self.summary()
        finals, importances = summary.finals, importance(self.ledger.study, self.search.scheduler.first_compared)
        answers = predictions(self.folder.place, finals)
        written = report.write(self.folder.path, summary, records, importances, predictions=answers)
        before = self.ledger.conclusion.champion if self.ledger.conclusion else None
        champion, trouble = self._crown(finals) if finals is not None else (None, None)
        worked = self._worked(summary)
        files = written.json, written.markdown, written.html, self.folder.study_file
        for file in files:
            self.folder.forced(file)
        # Of a study that is to go on there are none yet: each number of trials and trainings is reported once.
        metrics = {} if interrupted else {self._done(finals): Metrics.now(_metrics(finals, records.started.counts()))}
        self.ledger.conclude(
            Conclusion(
                state="interrupted" if interrupted else _state(worked),
                note=written.answer,
                front=tuple(written.front),
                files=tuple(self.folder.relative(file) for file in files),
                metrics=metrics,
                champion=champion,
            )
        )
        unsent = first or self.mirror.send(patient)
        new = champion is not None and (before is None or before.number != champion.number)
        return Result(written.answer, interrupted, worked, unsent, trouble, self.reached, new)

    def _crown(self, finals: Finals) -> tuple[Champion | None, str | None]:
        """Exports the champion, if there is one yet; or why it could not be exported.

        Raises:
            OSError, Halted: the disk is full or cannot be written; the URL does not answer.
        """
        finalist, chosen = finals.champion, export.champion(self.spec, self.folder, finals)
        if finalist is None or chosen is None or not finals.complete:
            return None, None
        try:
            place = export.export_champion(chosen, self.data, self.folder)
        except (graphs.NotTheSame, InputError) as reason:
            return None, f"the champion is not exported: {reason}"
        return Champion(*_of_champion(finals, finalist), self.folder.relative(place), finalist.tested), None

    def _is_crowned(self, finals: Finals, said: Conclusion) -> bool:
        """Whether `_crown` has nothing left to do, where that is what was `said`."""
        finalist, champion, chosen = finals.champion, said.champion, export.champion(self.spec, self.folder, finals)
        if finalist is None or chosen is None:
            return True
        now = (*_of_champion(finals, finalist), finalist.tested)
        same = champion is not None and (champion.number, champion.seed, champion.tested) == now
        return same and export.is_exported(chosen, self.folder)

    def _done(self, finals: Finals | None) -> int:
        """Trials and trainings of the finals that are over."""
        return self.finished + (self.finals.finished if finals else 0)

    def _worked(self, summary: StudySummary) -> bool:
        tested = summary.finals is not None and summary.finals.champion_number is not None
        return tested or self.ledger.records.best is not None


def _of_champion(finals: Finals, finalist: Finalist) -> tuple[int, int]:
    """Number of the trial and seed of the training whose network is the champion."""
    return finalist.number, next(r.seed for r in finalist.runs if r.number == finals.champion_run)


def _state(worked: bool) -> Literal["complete", "failed"]:
    """Of a study that is over, as MLflow shows it."""
    return "complete" if worked else "failed"


def _metrics(finals: Finals | None, trials: Mapping[str, int]) -> dict[str, float]:
    """Of a study: its champion's, and how many of its trials (`trials`: state -> number) ended in which way."""
    counted = {f"trials/{state}": float(number) for state, number in trials.items() if any(trials.values())}
    best = finals.champion if finals else None
    return counted | (tested(best.tested, finals.tested_on, finals.measure) if finals and best else {})


def refuse_to_delete(folder: StudyFolder, spec: StudySpec) -> None:
    """Refuses to delete the study in `folder`, or in its storage, if there is one.

    Raises:
        InputError: that is so.
    """
    url = spec.search.storage
    storage = open_storage(folder.journal, url) if url or folder.journal.exists() else None
    trials = StoredStudy(storage, spec.name).finished(folder.owner(url is not None)) if storage else 0
    if trials or folder.study_file.exists():
        raise InputError(
            f"--fresh would delete study {spec.name!r} in {folder.place} with {trials} finished trials; add "
            "--yes to delete it, or use --name for another study"
        )


def delete_study(folder: StudyFolder, spec: StudySpec) -> list[str]:
    """Deletes the study in `folder` and in its storage, if there is one; what MLflow has of it stays there.

    Returns what stays in the folder, for it is not the study's.

    Raises:
        InputError: the storage holds a study of this name that belongs to another folder; nothing is deleted.
    """
    url = spec.search.storage
    owner = folder.owner(shared=url is not None)
    stored = StoredStudy(open_storage(folder.journal, url), spec.name) if url else None
    if stored is not None:
        stored.check_owner(owner)
    stays = folder.clear()
    if stored is not None:
        stored.delete(owner)
    folder.forget()
    return stays
