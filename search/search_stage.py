"""The search of a study: trials that Optuna proposes and a scheduler stops, compared by the validation split."""

from dataclasses import asdict

from rich.console import Console

from search.data import Prepared
from search.lineage import Opened
from search.packing import largest
from search.progress import Progress
from search.recorder import Recorder
from search.samplers import Proposer
from search.schedulers import make_scheduler
from search.session import NOTED_SECONDS, Clock, Session
from search.space import Space
from search.starts import starts
from search.strategy import Strategy
from search.study_folder import StudyFolder
from search.study_spec import StudySpec
from search.study_summary import finished, note, over, spent, stopped
from search.tracking import Tracker


class SearchStage:
    """Args:
    spec, space, data, folder: of the study.
    opened: its ledger.
    """

    def __init__(self, spec: StudySpec, space: Space, data: Prepared, folder: StudyFolder, opened: Opened) -> None:
        self._spec, self._space, self._data, self._folder, self._opened = spec, space, data, folder, opened
        self.ledger = opened.ledger
        self.scheduler = make_scheduler(spec.search, spec.epochs)
        self.clock = Clock(self.ledger)

    @property
    def finished(self) -> int:
        """Trials that are over."""
        return finished(self.ledger.records)

    @property
    def spent(self) -> bool:
        """True when the time budget is used up."""
        return spent(self._spec, self.clock.elapsed)

    @property
    def complete(self) -> bool:
        """True when nothing is left to run, as in a study that compares given configurations."""
        return over(self._spec, self.ledger.records, self.clock.elapsed, self.ledger.exhausted)

    @property
    def stopped(self) -> str | None:
        """Why there are fewer trials than were asked for."""
        return stopped(self._spec, self.ledger.records, self.clock.elapsed, self.ledger.exhausted)

    def run(self, session: Session, tracker: Tracker, console: Console) -> None:
        """Runs what is left of it."""
        if self._opened.generation > 1:
            console.print(str(self._opened), markup=False, highlight=False, soft_wrap=True)
        strategy = self._strategy()
        recorder = Recorder(self._spec.name, strategy, tracker, self._folder.trials(self._opened.generation))
        self.clock.start()  # the budget is for searching, not for starting Ray

        def closed() -> bool:
            return session.interrupt.requested or self.spent

        packing = session.pack(largest(self._space, self._data.info.shape[:2]), self._left, closed)
        if packing is not None:
            self.ledger.study.set_user_attr("packing", asdict(packing))
            console.print(str(packing), markup=False, highlight=False, soft_wrap=True)
        note(self.ledger.study, self._data.info, session.share)

        def show() -> None:
            self.clock.note(NOTED_SECONDS)
            progress.update(self.ledger.records, strategy.waiting)

        with Progress(console, self._spec.name, self._spec.search.trials, self._spec.epochs) as progress:
            session.train(recorder, False, closed, show, progress.say)
            if not session.interrupt.requested:
                recorder.close()
                if self.spent:
                    recorder.out_of_time(f"time budget of {self._spec.search.time_budget:g} s spent")
                show()
        self.clock.stop()

    @property
    def _left(self) -> int:
        return self._spec.search.trials - self.finished

    def _strategy(self) -> Strategy:
        search = self._spec.search
        begin = (*starts(self._spec.start, self._space), *self._opened.starts)
        proposer = Proposer(self._space, search.sampler, search.seed, search.objectives, begin)
        return Strategy(self.ledger, proposer, self.scheduler, search.trials, self._spec.epochs)
