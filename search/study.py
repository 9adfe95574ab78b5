"""A study from its specification to its answer: opened or continued, run, reported. The folder is the study."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console

from search import host, lineage, report
from search import report_facts as facts
from search.data import Prepared
from search.importance import importance
from search.interrupt import Interrupt
from search.ledger import Asked
from search.limits import appraise
from search.lineage import identity, open_ledger
from search.outboxes import Outboxes, send
from search.packing import pack
from search.progress import Progress
from search.recorder import Recorder
from search.records import StudySummary
from search.samplers import Proposer
from search.schedulers import first_rung, make_scheduler
from search.space import Space
from search.starts import starts
from search.storage import answering, open_storage
from search.strategy import Strategy
from search.study_folder import StudyFolder
from search.study_spec import StudySpec
from search.study_summary import Surroundings, finished, noted, summarise
from search.tracking import Tracker
from search.tuning import tune_until_done

NOTED_SECONDS = 10.0  # how often the time spent is noted


@dataclass(frozen=True)
class Outcome:
    """How a call of `run` ended."""

    answer: str  # Markdown
    interrupted: bool
    worked: bool  # at least one trial has a result
    unsent: str | None  # why the tracking server has not taken everything


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
        self._opened = open_ledger(
            storage,
            spec.name,
            self.folder.place,
            identity(self.space, self.data.info.digest, spec.limits.model_dump()),
            self.space,
            lambda trial: appraise(trial, image, spec.limits),
        )
        self.ledger = self._opened.ledger
        self.folder.bind(self._opened.generation, self.ledger.key)
        mine = spec, self.data.info, self.folder, self._opened.generation
        self._outboxes = Outboxes(*mine, lineage.keys(storage, spec.name), self.tracking_uri, self.artifact_root)
        self._scheduler = make_scheduler(spec.search, spec.epochs)
        self._began = time.monotonic()

    @property
    def finished(self) -> int:
        """Trials that are over."""
        return finished(self.ledger.records)

    @property
    def elapsed(self) -> float:
        """Seconds of work on this study, over all starts."""
        return self.ledger.elapsed + time.monotonic() - self._began

    @property
    def spent(self) -> bool:
        """True when the time budget is used up."""
        budget = self.spec.search.time_budget
        return budget is not None and self.elapsed >= budget

    @property
    def complete(self) -> bool:
        """True when nothing is left to run."""
        running = any(r.running for r in self.ledger.records)
        enough = self.finished >= self.spec.search.trials or self.ledger.exhausted is not None
        return not running and (enough or self.spent)

    def concluded(self) -> Outcome | None:
        """The outcome of a study of which nothing is left to do, not even to send; None where something is."""
        if not (self.complete and report.is_of(self.folder.path, self.summary())) or self.unsent:
            return None
        records = self.ledger.records
        return Outcome(report.answer(self.summary(), records), False, facts.best(records) is not None, None)

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

    def sync(self) -> str | None:
        """Sends what MLflow lacks, also of the studies before this one was changed; why it has not taken everything."""
        earlier = self._outboxes.send_earlier()
        tracker = self._outboxes.tracker()
        try:
            return self._conclude(tracker, interrupted=not self.complete).unsent or earlier
        finally:
            tracker.close()

    def _run(self, console: Console, interrupt: Interrupt) -> Outcome:
        tracker = self._outboxes.tracker()
        try:
            if not self.complete:
                self._outboxes.announce(tracker)
            recorder = Recorder(self.spec.name, self._strategy(), tracker, self.folder.trials(self._opened.generation))
            if not self.complete:
                if self._opened.generation > 1:
                    console.print(str(self._opened), markup=False, highlight=False, soft_wrap=True)
                self._search(recorder, console, interrupt)
                self._note_time()
            outcome = self._conclude(tracker, interrupt.requested, patient=not interrupt.requested)
            earlier = None if interrupt.requested else self._outboxes.send_earlier()
            return replace(outcome, unsent=outcome.unsent or earlier)
        finally:
            tracker.close()

    def summary(self) -> StudySummary:
        """The study as the report shows it."""
        around = noted(self.ledger.study) or Surroundings.here(self.data.info)
        return summarise(self.spec, self.space, around, self.ledger.records, self.elapsed, self.ledger.exhausted)

    def _strategy(self) -> Strategy:
        search = self.spec.search
        begin = (*starts(self.spec.start, self.space), *self._opened.starts)
        proposer = Proposer(self.space, search.sampler, search.seed, search.objectives, begin)
        return Strategy(self.ledger, proposer, self._scheduler, search.trials, self.spec.epochs)

    def _note_time(self) -> None:
        now = time.monotonic()
        self.ledger.add_elapsed(now - self._began)
        self._began = now

    def _search(self, recorder: Recorder, console: Console, interrupt: Interrupt) -> None:
        share = host.connect(self.spec.resources, self.spec.search)
        interrupt.arm()
        self._began = time.monotonic()  # the budget is for searching, not for starting Ray

        def closed() -> bool:
            return interrupt.requested or self.spent

        left = self.spec.search.trials - self.finished
        share, packing = pack(share, self.spec, self.space, self.data.info, left, closed)
        if packing is not None:
            self.ledger.study.set_user_attr("packing", asdict(packing))
            console.print(str(packing), markup=False, highlight=False, soft_wrap=True)
        Surroundings.here(self.data.info, {"cpus": share.cpus, "gpus": share.gpus}).note(self.ledger.study)

        def config(asked: Asked, alone: bool) -> dict[str, Any]:
            return {
                "number": asked.number,
                "spec": asked.spec.model_dump(mode="json"),
                "folder": recorder.folder(asked.number),
                "epochs_known": recorder.known_epochs(asked.number),
                "data": self.spec.data.model_dump(mode="json"),
                "prepared": [str(self.data.folder), self.data.info.digest],
                "threads": share.threads,
                "gpus": 1.0 if alone else share.gpus,
                "compile": self.spec.resources.compile.value,
            }

        def show() -> None:
            if time.monotonic() - self._began >= NOTED_SECONDS:  # a process that is killed says no more
                self._note_time()
            progress.update(self.ledger.records, recorder.strategy.waiting)

        with Progress(console, self.spec.name, self.spec.search.trials, self.spec.epochs) as progress:
            tune_until_done(recorder, config, self.spec, share, closed, show, progress.say)
            if not interrupt.requested:
                recorder.close()
                if self.spent:
                    recorder.out_of_time(f"time budget of {self.spec.search.time_budget:g} s spent")
                show()

    def _conclude(self, tracker: Tracker, interrupted: bool, patient: bool = True) -> Outcome:
        first = send(tracker, patient)
        records = self.ledger.with_run_ids(tracker.run_ids())
        compared = first_rung(self._scheduler, self.spec.epochs)
        importances = importance(self.ledger.study, compared, self.spec.search.seed)
        written = report.write(self.folder.path, self.summary(), records, importances)
        worked = facts.best(records) is not None
        state = "interrupted" if interrupted else "complete" if worked else "failed"
        kept = self.folder.kept(written.json, written.markdown, written.html, self.folder.study_file)
        tracker.study_ended(written.answer, state, artifacts=kept, front=written.front)
        unsent = first or send(tracker, patient)
        return Outcome(written.answer, interrupted, worked, unsent)
