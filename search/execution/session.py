"""The one loop that runs a study's search and its finals while Ray is connected, and how Ctrl-C ends it."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from types import FrameType
from typing import Any, Self

from rich.console import Console

from search import machine
from search.activity import Activity
from search.data import Prepared
from search.execution import host
from search.execution.packing import pack
from search.execution.progress import Progress
from search.execution.recorder import Recorder
from search.formatting import say
from search.machine import signal_handlers
from search.optimize import Plan, needed_by_finals
from search.records import Asked, Environment, Ledger, Spent, StudySummary, Trials
from search.spec import Share, StudySpec


class Interrupt:
    """While it is entered, the first SIGINT or SIGTERM sets `requested` and prints a line; the next acts as without us.

    It is entered while trainings run. Otherwise a signal acts as it does for the caller: nothing is lost by it.
    """

    def __init__(self) -> None:
        self.requested = False
        self.say: Callable[[str], None] = print
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = signal_handlers((signal.SIGINT, signal.SIGTERM))
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        for each, handler in self._before.items():
            signal.signal(each, handler)
        # In a thread, for this one may be just drawing.
        line = "interrupted: what trains comes to the end of its epoch; once more to end at once"
        threading.Thread(target=self.say, args=[line], name="interrupted", daemon=True).start()


# How long a thread that computes may keep another waiting. Python's 5 ms would be waited by the loop after each
# write to the disk and each answer of Ray, while the mirror works.
TURN_SECONDS = 0.0005
SAVED_SECONDS = 10.0  # how often what is spent is saved
PRICED_SECONDS = 10.0  # how often the nodes are asked what they cost


class Clock:
    """Counts what a stage spends from now on into its ledger; a process that is killed loses seconds of it."""

    def __init__(self, ledger: Ledger, prices: Mapping[str, float]) -> None:
        self._ledger, self._before = ledger, ledger.spent
        self._gpus, self._prices = 0.0, dict(prices)  # that are held; currency -> of an hour
        self._counted, self._since = Spent(), time.monotonic()  # what is not written yet, up to this moment

    @property
    def spent(self) -> Spent:
        """Over all starts."""
        return self._before + self._until(time.monotonic())

    def change(self, gpus: float, prices: Mapping[str, float]) -> None:
        """From now on so many GPUs are held, and an hour costs so much in each currency."""
        now = time.monotonic()
        self._counted, self._since = self._until(now), now
        self._gpus, self._prices = gpus, dict(prices)

    def save(self, least: float = 0.0) -> None:
        """Writes down what has been spent, if it is of at least so many seconds more than was written."""
        now = time.monotonic()
        counted = self._until(now)
        if counted.seconds >= least:
            self._ledger.spend(counted)
            self._before, self._counted, self._since = self._before + counted, Spent(), now

    def _until(self, now: float) -> Spent:
        seconds = now - self._since
        hours = seconds / 3600
        cost = {currency: price * hours for currency, price in self._prices.items()}
        return self._counted + Spent(seconds, self._gpus * hours, cost)


@dataclass
class Session:
    """Ray, connected for one study."""

    spec: StudySpec
    data: Prepared
    ledger: Ledger  # of the search, which also says on what the study runs
    interrupt: Interrupt  # ends what runs
    activity: Activity  # shows what takes time
    share: Share  # what a trial has of a machine
    check: Callable[[], None]  # raises Halted once Ray has lost a part without which nothing can go on
    prices: Callable[[], Mapping[str, float]]  # currency -> what the nodes that are there cost an hour
    _packed: bool = False

    @classmethod
    @contextmanager
    def connected(
        cls, spec: StudySpec, data: Prepared, ledger: Ledger, interrupt: Interrupt, activity: Activity
    ) -> Iterator[Self]:
        """While it is entered, Ray runs here, or a cluster is joined; see `host.connected`."""
        before = signal_handlers((signal.SIGINT, signal.SIGTERM))
        with host.connected(spec.resources, spec.search) as (share, check, prices):
            for number, handler in before.items():  # Ray has taken SIGTERM
                signal.signal(number, handler)
            sys.setswitchinterval(TURN_SECONDS)
            yield cls(spec, data, ledger, interrupt, activity, share, check, prices)

    def run(self, recorder: Recorder, console: Console) -> None:
        """Trains what the recorder's plan says, until that is over or ended, or Ctrl-C was pressed."""
        plan, prices, kept, asked_at = recorder.plan, self.prices(), Spent(), time.monotonic()
        clock = Clock(recorder.ledger, prices)  # the time is for training, not for starting Ray
        recorder.begin()

        def closed() -> bool:
            return self.interrupt.requested or recorder.is_ended(clock.spent, kept)

        def turn(training: int) -> None:
            nonlocal prices, asked_at
            self.check()
            if time.monotonic() - asked_at >= PRICED_SECONDS:
                prices, asked_at = self.prices(), time.monotonic()
            clock.change(training * self.share.gpus, prices)
            show()

        def show(now: bool = False) -> None:
            nonlocal kept
            clock.save(SAVED_SECONDS)
            if now or progress.is_due:  # each time it goes through all trials
                records, spent = plan.records, clock.spent
                if plan.final:
                    progress.update(records, plan.total)
                    return
                kept = self._for_finals(records, prices)
                gain = records.expected_gain(spent.seconds, plan.ledger.exhausted)
                left = [str(budget) for budget in spent.budgets(self.spec.search, kept)]
                progress.update(records, plan.total, plan.waiting, str(gain or ""), left)

        self._pack(plan, closed, console)
        Environment.save(self.ledger.study, self.data.info, self.share, finals=plan.final)
        from search.execution import tuner  # noqa: F401, PLC0415  takes seconds, so the activity goes on until then

        self.activity.end()
        effective = StudySummary.counted(self.data.info.summary, "validation", self.spec.search.measure)[1]
        with (
            Progress(console, self.spec.name, self.spec.epochs, plan.candidates, effective) as progress,
            self.interrupt,
        ):
            self.interrupt.say = progress.say
            self._train(recorder, closed, turn, progress.say)
            clock.change(0.0, prices)
            clock.save()
            if not self.interrupt.requested:
                with recorder.ledger.together():  # many trials may wait, and end now
                    recorder.close()
            show(now=True)
        clock.save()

    def _for_finals(self, records: Trials, prices: Mapping[str, float]) -> Spent:
        """What the finals need for an answer: their trainings side by side, on the nodes that are there now."""
        if self.spec.search.gpu_hours is None and self.spec.search.max_cost is None:
            return Spent()
        trainings, each = needed_by_finals(self.spec, records, self.data.info.summary)
        seconds = each * ceil(trainings / self.share.concurrent)
        cost = {currency: price * seconds / 3600 for currency, price in prices.items()}
        return Spent(seconds, trainings * each * self.share.gpus / 3600, cost)

    def _pack(self, plan: Plan, closed: Callable[[], bool], console: Console) -> None:
        """Lets as many trials share a GPU as fit, by what the largest of the first plan takes of one."""
        if self._packed or not self.share.gpus:
            return
        network, left = plan.largest(self.data.info.shape[:2]), plan.total - plan.finished
        self.share, packing = pack(self.share, self.spec, network, self.data.info, left, closed)
        self._packed = True
        if packing is not None:
            self.ledger.study.set_user_attr("packing", asdict(packing))
            self.activity.end()
            say(console, str(packing))

    def _train(
        self, recorder: Recorder, closed: Callable[[], bool], turn: Callable[[int], None], say: Callable[[str], None]
    ) -> None:
        from search.execution import tuner  # noqa: PLC0415  imports Ray, which then reads how it authenticates: `host` has said it

        def own(asked: Asked) -> dict[str, Any]:
            return {
                "number": asked.number,
                "spec": asked.spec.model_dump(mode="json"),
                "folder": recorder.folder(asked.number),
                "epochs_known": recorder.ledger.record(asked.number).epochs,
                "rungs": recorder.plan.rungs,
                "weights": recorder.weights(asked.spec),
            }

        def config(together: Sequence[Asked]) -> dict[str, Any]:
            first, *others = map(own, together)
            return {
                **first,
                "others": others,
                "data": self.spec.data.model_dump(mode="json"),
                "prepared": [str(self.data.folder), self.data.info.digest],
                "software": None if host.address() is None else machine.software(),
                "processes": self.share.processes,
                "cpus": self.share.cpus_each,
                "threads": self.share.threads,
                "gpus": self.share.gpus / self.share.processes,
                "compile": self.spec.resources.compile,
                "final": recorder.plan.final,
            }

        loop = tuner.Loop(closed, lambda: self.interrupt.requested, turn, say)
        # With a share of a GPU each training has a process of its own; a compiled network is one in its process.
        alone = self.share.gpus != 1 or self.spec.resources.compile or self.spec.search.timed
        tuner.train(recorder, config, self.share, loop, 1 if alone else tuner.TOGETHER)
