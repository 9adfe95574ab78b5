"""The stages of a study, search and finals, while Ray is connected, and how Ctrl-C ends them."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console

from resnet import cost
from search import optimize
from search.data import Prepared
from search.execution import host
from search.execution.packing import Packing, largest, pack
from search.execution.progress import FinalProgress, Progress
from search.execution.recorder import FinalRecorder, Recorder
from search.optimize import Candidate, FinalCourse, Opened, Proposer, Strategy, make_scheduler
from search.records import (
    Asked,
    Environment,
    FinalLedger,
    Finals,
    Ledger,
    StudyFolder,
    TrialState,
)
from search.spec import Space, StudySpec, TrialSpec
from search.tracking import Dataset, Tracker


class Interrupt:
    """While it is entered, the first SIGINT or SIGTERM sets `requested`; the next acts as it would without us."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.arm()
        return self

    def arm(self) -> None:
        """Takes the signals, again where a library has taken them since, as Ray does when it starts."""
        if not self.requested:
            for number in self._before:
                signal.signal(number, self._note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        for each, handler in self._before.items():
            signal.signal(each, handler)


NOTED_SECONDS = 10.0  # how often the time spent is noted


class Clock:
    """The time that is spent on a part of a study, over all starts; a process that is killed loses seconds of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._since: float | None = None  # None: nothing is being spent

    @property
    def elapsed(self) -> float:
        """Seconds."""
        return self._ledger.elapsed + (0.0 if self._since is None else time.monotonic() - self._since)

    def start(self) -> None:
        """From now on time is spent."""
        self._since = time.monotonic()

    def note(self, least: float = 0.0) -> None:
        """Writes down what has been spent, if it is at least so many seconds more than was written."""
        now = time.monotonic()
        if self._since is not None and now - self._since >= least:
            self._ledger.add_elapsed(now - self._since)
            self._since = now

    def stop(self) -> None:
        """Writes down what has been spent; what comes after is not."""
        self.note()
        self._since = None


@dataclass
class Session:
    """As a context: Ray is started or joined, and left.

    Args:
        spec: of the study.
        data: prepared.
        interrupt: armed again once Ray has started.
    """

    spec: StudySpec
    data: Prepared
    interrupt: Interrupt

    def __enter__(self) -> Self:
        self._ray = host.connected(self.spec.resources, self.spec.search)
        self.share, self._check = self._ray.__enter__()
        self.interrupt.arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.__exit__(kind, error, trace)

    def pack(self, network: Callable[[], TrialSpec], trials: int, closed: Callable[[], bool]) -> Packing | None:
        """Lets as many trials share a GPU as fit, by what the largest network takes of one; see `packing.pack`."""
        self.share, packing = pack(self.share, self.spec, network, self.data.info, trials, closed)
        return packing

    def train(
        self,
        recorder: Recorder,
        final: bool,
        closed: Callable[[], bool],
        show: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """Trains what the recorder's course says, until there is no more of it or it is `closed`."""

        # Ray reads how it authenticates when it is imported, and `host` says it when Ray is started.
        from search.execution.tuner import tune_until_done

        def config(asked: Asked, alone: bool) -> dict[str, Any]:
            return {
                "number": asked.number,
                "spec": asked.spec.model_dump(mode="json"),
                "folder": recorder.folder(asked.number),
                "epochs_known": recorder.known_epochs(asked.number),
                "data": self.spec.data.model_dump(mode="json"),
                "prepared": [str(self.data.folder), self.data.info.digest],
                "cpus": self.share.cpus,
                "threads": self.share.threads,
                "gpus": 1.0 if alone else self.share.gpus,
                "compile": self.spec.resources.compile.value,
                "final": final,
            }

        def turn() -> None:
            self._check()
            show()

        tune_until_done(recorder, config, self.spec, self.share, closed, turn, say)


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
        return self.ledger.records.finished

    @property
    def spent(self) -> bool:
        """True when the time budget is used up."""
        return self._spec.search.budget_used(self.clock.elapsed)

    @property
    def complete(self) -> bool:
        """True when nothing is left to run, as in a study that compares given configurations."""
        return self.ledger.records.is_complete(self._spec, self.clock.elapsed, self.ledger.exhausted)

    @property
    def stopped(self) -> str | None:
        """Why there are fewer trials than were asked for."""
        return self.ledger.records.stop_reason(self._spec, self.clock.elapsed, self.ledger.exhausted)

    def run(self, session: Session, tracker: Tracker, console: Console) -> None:
        """Runs what is left of it."""
        if self._opened.generation > 1:
            console.print(str(self._opened), markup=False, highlight=False, soft_wrap=True)
        strategy = self._strategy()
        recorder = Recorder(self._spec.name, strategy, tracker, self._folder.trials(self._opened.generation))
        self.clock.start()  # the budget is for searching, not for starting Ray

        def closed() -> bool:
            return session.interrupt.requested or self.spent

        packing = session.pack(lambda: largest(self._space, self._data.info.shape[:2]), self._left, closed)
        if packing is not None:
            self.ledger.study.set_user_attr("packing", asdict(packing))
            console.print(str(packing), markup=False, highlight=False, soft_wrap=True)
        Environment.save(self.ledger.study, self._data.info, session.share)

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
        proposer = Proposer.of(self._spec, self._space, self._opened.starts)
        return Strategy(self.ledger, proposer, self.scheduler, search.trials, self._spec.epochs)


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
        return optimize.complete(self._spec, self._course(), self.clock.elapsed)

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
            specs = [candidate.spec for candidate in course.candidates]
            packing = session.pack(
                lambda: max(specs, key=self._memory), course.trainings, lambda: session.interrupt.requested
            )
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
        return optimize.found(self._spec, self._course(), self.clock.elapsed, images, *ids)

    def sum_up(self, tracker: Tracker, finals: Finals) -> None:
        """Writes what each finalist's trainings gave together to MLflow."""
        course = self._course()
        recorder = FinalRecorder(self._spec.name, course, tracker, self._folder, self.ledger, self._dataset)
        for finalist in finals.finalists:
            recorder.sum_up(finalist, finals)

    def checkpoints(self, run: int) -> str:
        """Path or URL of the folder of a training's checkpoints."""
        return f"{self._folder}/{run:04d}"

    @property
    def _spent(self) -> bool:
        budget = self._spec.finals.time_budget
        return budget is not None and self.clock.elapsed >= budget

    def _memory(self, trial: TrialSpec) -> int:
        return cost(trial.net, self._data.info.shape[:2]).activation_bytes * trial.train.batch_size

    def _course(self) -> FinalCourse:
        return optimize.course(self._spec, self.ledger, self._candidates(), self._data.info.n_test)

    def _close(self, recorder: FinalRecorder) -> None:
        """No training will go on: those that are open end where they are."""
        here = {c.number for c in self._candidates()}
        for record in self.ledger.records:
            if record.running:
                budget = f"the finals' time budget of {self._spec.finals.time_budget or 0:g} s was spent"
                gone = "its configuration is no longer among the best"
                recorder.end(record.number, TrialState.FAILED, budget if record.finalist in here else gone)
