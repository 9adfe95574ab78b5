"""A study from its specification to its answer: opened, continued or begun again, run, reported."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from search import export, report
from search.data import Prepared
from search.errors import InputError, without_credentials
from search.execution import FinalStage, Interrupt, SearchStage, Session, of_study
from search.export import NotTheSame
from search.optimize import (
    Candidate,
    Lineage,
    candidates,
    importance,
)
from search.records import (
    Environment,
    Finalist,
    FinalLedger,
    Finals,
    Ledger,
    StudyFolder,
    StudySummary,
    answering,
    open_storage,
)
from search.spec import LimitSpec, Space, StudySpec, appraise
from search.storage import REPORT, sweep
from search.study.opened import summarise
from search.tracking import ChampionChosen, Event, Outboxes, StudyEnded, Tracker, send


@dataclass(frozen=True)
class Outcome:
    """How a call of `run` ended."""

    answer: str  # Markdown
    interrupted: bool
    worked: bool  # at least one trial has a result
    unsent: str | None  # why the tracking server has not taken everything
    trouble: str | None = None  # why the champion was not exported


@dataclass
class Study:
    """One study in its folder, with everything that it consists of opened.

    Args:
        spec: resolved and checked.
        space: of `spec`, over the prepared data.
        data: prepared.
        folder: locked by this process.
        tracking_uri: where MLflow keeps the runs.
        artifact_root: where a new experiment keeps its artifacts; None leaves it to the server.
    """

    spec: StudySpec
    space: Space
    data: Prepared
    folder: StudyFolder
    tracking_uri: str
    artifact_root: str | None

    def __post_init__(self) -> None:
        spec, image = self.spec, self.data.info.shape[:2]
        storage = open_storage(self.folder.journal, spec.search.storage, self.folder.forced)
        lineage = Lineage(storage, spec.name)
        opened = lineage.open(
            self.folder.owner(shared=spec.search.storage is not None),
            lineage.identity(self.space, self.data.info.digest, spec.limits.model_dump()),
            self.space,
            lambda trial: appraise(trial, image, spec.limits),
        )
        self._generation = opened.generation
        self.folder.bind(self._generation, opened.ledger.key, begun=bool(opened.ledger.records))
        mine = spec, self.data.info, self.folder, self._generation
        self._outboxes = Outboxes(*mine, lineage.keys(), self.tracking_uri, self.artifact_root)
        export.mend(self.folder.path / export.CHAMPION)
        sweep(self.folder.path)
        sweep(self.folder.path / REPORT)
        self.search = SearchStage(spec, self.space, self.data, self.folder, opened)
        name = opened.ledger.study.study_name

        def runs() -> FinalLedger:
            return FinalLedger(storage, name, lambda trial: appraise(trial, image, LimitSpec()))

        checkpoints, dataset = self.folder.finals(self._generation), self._outboxes.dataset(finals=True)
        self.finals = FinalStage(spec, self.data, runs, checkpoints, self._candidates, dataset)

    @property
    def ledger(self) -> Ledger:
        """The records of its search."""
        return self.search.ledger

    @property
    def finished(self) -> int:
        """Trials that are over."""
        return self.search.finished

    @property
    def elapsed(self) -> float:
        """Seconds of work on this study, over all starts."""
        return self.search.clock.elapsed + (self.finals.elapsed if self.search.complete else 0.0)

    @property
    def complete(self) -> bool:
        """True when nothing is left to run."""
        return self.search.complete and self.finals.complete

    @property
    def champion(self) -> Path | None:
        """The folder in which its champion is exported, on this machine."""
        place = self.folder.path / export.CHAMPION
        return place if (place / "config.json").exists() else None

    def concluded(self) -> Outcome | None:
        """The outcome of a study of which nothing is left to do, not even to send; None where something is."""
        summary = self.summary()
        if not (self.complete and report.is_of(self.folder.path, summary)) or self.unsent or self.behind():
            return None
        answer, worked, finals = (
            report.short_answer(summary, self.ledger.records),
            self._worked(summary),
            summary.finals,
        )
        # The end is the last event: it is recorded when the report is written and the champion exported.
        before, ended = [None, None, *self._outboxes.last(2)][-2:]
        if not isinstance(ended, StudyEnded):
            return None
        known = ended.state, ended.step, ended.note
        now = _state(worked), self._done(finals), without_credentials(answer)
        if known != now or not (finals is None or self._is_crowned(finals, before)):
            return None
        return Outcome(answer, False, worked, None)

    def run(self, console: Console, interrupt: Interrupt) -> Outcome:
        """Runs what is left, writes the report and hands it to MLflow.

        Raises:
            Halted: the disk is full or cannot be written, or the storage went away.
        """
        with answering(self.spec.search.storage):
            return self._run(console, interrupt)

    @property
    def unsent(self) -> int:
        """Events that MLflow has not taken, also of the studies before this one was changed."""
        return self._outboxes.unsent

    def behind(self, study_too: bool = False) -> bool:
        """See `Outboxes.behind`."""
        return self._outboxes.behind(study_too)

    def sync(self) -> Outcome:
        """Sends what MLflow lacks, also of the studies before this one was changed, and writes what the end lacks."""
        earlier = self._outboxes.send_earlier()
        tracker = self._outboxes.tracker()
        try:
            outcome = self._conclude(tracker, interrupted=not self.complete)
            return replace(outcome, unsent=outcome.unsent or earlier)
        finally:
            tracker.close()

    def _run(self, console: Console, interrupt: Interrupt) -> Outcome:
        tracker = self._outboxes.tracker()
        try:
            if not self.complete:
                self._outboxes.announce(tracker)
                with Session(self.spec, self.data, interrupt) as session:
                    if not self.search.complete:
                        self.search.run(session, tracker, console)
                    if self.search.complete and not (interrupt.requested or self.finals.complete):
                        Environment.save(self.ledger.study, self.data.info, session.share, finals=True)
                        self.finals.run(session, tracker, console)
                        Environment.save(
                            self.ledger.study, self.data.info, session.share, finals=True
                        )  # as it was packed
            outcome = self._conclude(tracker, interrupt.requested, patient=not interrupt.requested)
            earlier = None if interrupt.requested else self._outboxes.send_earlier()
            return replace(outcome, unsent=outcome.unsent or earlier)
        finally:
            tracker.close()

    def _candidates(self) -> Sequence[Candidate]:
        info = self.data.info
        return candidates(self.spec, lambda: self.finals.ledger, self.ledger.records, info.shape, len(info.classes))

    def _found(self, tracker: Tracker | None = None) -> Finals | None:
        return self.finals.found(tracker) if self.search.complete else None

    def summary(self, finals: Finals | None = None) -> StudySummary:
        """The study as the report shows it."""
        around = Environment.of(self.ledger.study) or Environment.here(self.data.info)
        return summarise(self.spec, self.space, around, self.elapsed, self.search.stopped, finals or self._found())

    def _conclude(self, tracker: Tracker, interrupted: bool, patient: bool = True) -> Outcome:
        first = send(tracker, patient)
        records, finals = self.ledger.with_run_ids(tracker.run_ids()), self._found(tracker)
        compared = self.search.scheduler.first_compared
        importances = importance(self.ledger.study, compared, self.spec.search.seed)
        summary = self.summary(finals)
        written = report.write(self.folder.path, summary, records, importances)
        trouble = None
        if finals is not None:
            self.finals.sum_up(tracker, finals)
            trouble = self._crown(tracker, finals)
        worked = self._worked(summary)
        state = "interrupted" if interrupted else _state(worked)
        files = written.json, written.markdown, written.html, *written.images, self.folder.study_file
        kept = self.folder.kept(*files)
        # Of a study that is to go on there are none yet: each number of trials and trainings is told once.
        metrics = {} if interrupted else of_study(finals, records.started.counts())
        done = self._done(finals)
        tracker.study_ended(written.answer, state, metrics=metrics, step=done, artifacts=kept, front=written.front)
        unsent = first or send(tracker, patient)
        return Outcome(written.answer, interrupted, worked, unsent, trouble)

    def _crown(self, tracker: Tracker, finals: Finals) -> str | None:
        """Exports the champion and tells MLflow; why it could not be exported, or None.

        Raises:
            OSError, Halted: the disk is full or cannot be written; the URL does not answer.
        """
        finalist = finals.best
        if finalist is None or not finals.complete:
            return None
        try:
            place = export.crown(self.spec, self.data, self.folder, finals, self.finals.checkpoints)
        except (NotTheSame, InputError) as reason:
            return f"the champion is not exported: {reason}"
        tracker.champion(*_of_champion(finals, finalist), place, finalist.tested)
        return None

    def _is_crowned(self, finals: Finals, event: Event | None) -> bool:
        """Whether `_crown` has nothing left to do, where `event` is the last that was recorded by it."""
        finalist = finals.best
        if finalist is None:
            return True
        if not isinstance(event, ChampionChosen):
            return False
        same = (event.number, event.seed, *event.tested) == (*_of_champion(finals, finalist), *finalist.tested)
        return same and export.is_exported(self.spec, self.folder, finals, self.finals.checkpoints)

    def _done(self, finals: Finals | None) -> int:
        """Trials and trainings of the finals that are over."""
        return self.finished + (self.finals.trained if finals else 0)

    def _worked(self, summary: StudySummary) -> bool:
        tested = summary.finals is not None and summary.finals.champion is not None
        return tested or self.ledger.records.best is not None


def _of_champion(finals: Finals, finalist: Finalist) -> tuple[int, int]:
    """Number of the trial and seed of the training whose network is the champion."""
    return finalist.number, next(r.seed for r in finalist.runs if r.number == finals.champion_run)


def _state(worked: bool) -> Literal["complete", "failed"]:
    """Of a study that is over, as MLflow shows it."""
    return "complete" if worked else "failed"


def check_told(folder: StudyFolder, spec: StudySpec, yes: bool) -> None:
    """Refuses to delete the study in `folder`, or in its storage, if there is one and not `yes`.

    Raises:
        InputError: that is so.
    """
    url = spec.search.storage
    if yes:
        return
    storage = open_storage(folder.journal, url) if url or folder.journal.exists() else None
    trials = Lineage(storage, spec.name).count_finished(folder.owner(url is not None)) if storage else 0
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
    url, owner = spec.search.storage, folder.owner(spec.search.storage is not None)
    storage = open_storage(folder.journal, url) if url else None
    lineage = Lineage(storage, spec.name) if storage is not None else None
    if lineage is not None:
        lineage.check_owner(owner)
    stays = folder.clear()
    if lineage is not None:
        lineage.delete(owner)
    folder.forget()
    return stays
