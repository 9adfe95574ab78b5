"""The finals of a study: its best configurations, or those that it compares, trained with several seeds and tested."""

from collections.abc import Callable, Sequence
from functools import cached_property

from rich.console import Console

from resnet import cost
from search import champion, final_found
from search.data import Prepared
from search.errors import InputError
from search.export_graph import NotTheSame
from search.final_ledger import FinalLedger
from search.final_progress import FinalProgress
from search.final_recorder import FinalRecorder
from search.finals import Candidate, FinalCourse
from search.outbox import ChampionChosen, Event
from search.records import Finalist, Finals, TrialState
from search.session import NOTED_SECONDS, Clock, Session
from search.spec import TrialSpec
from search.study_folder import StudyFolder
from search.study_spec import StudySpec
from search.tracking import Dataset, Tracker


class FinalStage:
    """Args:
    spec, data: of the study.
    open_ledger: opens the records of the finals; done once there are candidates.
    folder: path or URL of the checkpoints' folder.
    candidates: those who take part, known once the search is over.
    dataset: train and validation together, as MLflow shows them.
    """

    def __init__(
        self,
        spec: StudySpec,
        data: Prepared,
        open_ledger: Callable[[], FinalLedger],
        folder: str,
        candidates: Callable[[], Sequence[Candidate]],
        dataset: Dataset,
    ) -> None:
        self._spec, self._data, self._folder, self._candidates = spec, data, folder, candidates
        self._dataset, self._open = dataset, open_ledger

    @cached_property
    def ledger(self) -> FinalLedger:
        """The records of the finals."""
        return self._open()

    @cached_property
    def clock(self) -> Clock:
        """The time spent on the finals."""
        return Clock(self.ledger)

    @property
    def complete(self) -> bool:
        """True when nothing is left to run. To be asked once the search is over."""
        if not self._candidates():
            return True
        return final_found.complete(self._spec, self._course(), self.clock.elapsed)

    @property
    def elapsed(self) -> float:
        """Seconds of work on the finals, over all starts."""
        return self.clock.elapsed if self._candidates() else 0.0

    @property
    def trained(self) -> int:
        """Trainings that are over."""
        return sum(not run.running for run in self._course().entered())

    def run(self, session: Session, tracker: Tracker, console: Console) -> None:
        """Runs what is left of them."""
        course = self._course()
        recorder = FinalRecorder(self._spec.name, course, tracker, self._folder, self.ledger, self._dataset)
        for candidate in course.candidates:
            if candidate.label is not None:
                recorder.compared(candidate)
        self.clock.start()
        if self._spec.compare:  # else the search has packed its own
            network = max((c.spec for c in course.candidates), key=self._memory)
            packing = session.pack(network, course.trainings, lambda: session.interrupt.requested)
            if packing is not None:
                console.print(str(packing), markup=False, highlight=False, soft_wrap=True)

        def closed() -> bool:
            return session.interrupt.requested or self._spent

        def show() -> None:
            self.clock.note(NOTED_SECONDS)
            progress.update(course.entered(), course.trainings)

        with FinalProgress(console, self._spec.name, course.candidates, self._spec.epochs) as progress:
            session.train(recorder, True, closed, show, progress.say)
            if not session.interrupt.requested:
                self._close(recorder)
            show()
        self.clock.stop()

    def found(self, tracker: Tracker | None) -> Finals | None:
        """What the finals have found so far; None where there are none. To be asked once the search is over.

        With a `tracker`, its runs in MLflow are named.
        """
        if not self._candidates():
            return None
        ids = (tracker.run_ids(), tracker.seed_run_ids()) if tracker else ({}, {})
        info = self._data.info
        images = info.n_train + info.n_validation, info.n_test
        return final_found.found(self._spec, self._course(), self.clock.elapsed, images, *ids)

    def crown(self, tracker: Tracker, finals: Finals, folder: StudyFolder) -> str | None:
        """Exports the champion and tells MLflow; why it could not be exported, or None.

        Raises:
            OSError, Halted: the disk is full or cannot be written; the URL does not answer.
        """
        finalist = finals.best
        if finalist is None or not finals.complete:
            return None
        try:
            place = champion.crown(self._spec, self._data, folder, finals, self._checkpoints)
        except (NotTheSame, InputError) as reason:
            return f"the champion is not exported: {reason}"
        tracker.champion(*_of_champion(finals, finalist), place, finalist.tested)
        return None

    def is_crowned(self, finals: Finals, folder: StudyFolder, event: Event | None) -> bool:
        """Whether `crown` has nothing left to do, where `event` is the last that was recorded by it."""
        finalist = finals.best
        if finalist is None:
            return True
        if not isinstance(event, ChampionChosen):
            return False
        same = (event.number, event.seed, *event.tested) == (*_of_champion(finals, finalist), *finalist.tested)
        return same and champion.is_exported(self._spec, folder, finals, self._checkpoints)

    def sum_up(self, tracker: Tracker, finals: Finals) -> None:
        """Writes what each finalist's trainings gave together to MLflow."""
        course = self._course()
        recorder = FinalRecorder(self._spec.name, course, tracker, self._folder, self.ledger, self._dataset)
        for finalist in finals.finalists:
            recorder.sum_up(finalist, finals)

    def _checkpoints(self, run: int) -> str:
        return f"{self._folder}/{run:04d}"

    @property
    def _spent(self) -> bool:
        budget = self._spec.finals.time_budget
        return budget is not None and self.clock.elapsed >= budget

    def _memory(self, trial: TrialSpec) -> int:
        return cost(trial.net, self._data.info.shape[:2]).activation_bytes * trial.train.batch_size

    def _course(self) -> FinalCourse:
        return final_found.course(self._spec, self.ledger, self._candidates(), self._data.info.n_test)

    def _close(self, recorder: FinalRecorder) -> None:
        """No training will go on: those that are open end where they are."""
        here = {c.number for c in self._candidates()}
        for record in self.ledger.records:
            if record.running:
                budget = f"the finals' time budget of {self._spec.finals.time_budget or 0:g} s was spent"
                gone = "its configuration is no longer among the best"
                recorder.end(record.number, TrialState.FAILED, budget if record.finalist in here else gone)


def _of_champion(finals: Finals, finalist: Finalist) -> tuple[int, int]:
    """Number of the trial, and seed, whose weights are exported."""
    return finalist.number, next(r.seed for r in finalist.runs if r.number == finals.champion_run)
