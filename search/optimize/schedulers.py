"""Which trials stop at which epoch, and which go on later: asynchronous successive halving."""

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from search.formatting import plural
from search.records import Standings
from search.spec import Scheduler, SearchSpec


@dataclass(frozen=True)
class Halving:
    """Compares trials at equal numbers of epochs; the best 1/`reduction` of those seen so far go on.

    A trial that is among them when it arrives goes on at once. One that is not waits at its checkpoint, and goes on
    when enough worse ones have come after it: nothing good is lost by having come early. (arXiv:1810.05934, algorithm
    2, promotes only; going on at once spares the wait where the answer is known.)

    Args:
        first_rung: epochs before the first comparison; with `epochs` or more nothing is ever stopped.
        reduction: ratio between rungs, and how many trials compete for one place in the next.
        epochs: epochs of a complete trial, where nothing is compared any more.
    """

    first_rung: int
    reduction: int
    epochs: int

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are compared, upwards; the last epoch of a trial is none."""
        rungs, rung = [], self.first_rung
        while rung < self.epochs:
            rungs.append(rung)
            rung *= self.reduction
        return tuple(rungs)

    def after(self, epoch: int) -> int:
        """The next rung, or the end."""
        return next((rung for rung in self.rungs if rung > epoch), self.epochs)

    @property
    def first_compared(self) -> int:
        """The first epoch at which all trials can be compared."""
        return (*self.rungs, self.epochs)[0]

    def fewest_epochs(self, trials: int) -> float:
        """Epochs of so many trials when 1/`reduction` of those at each rung go on."""
        ends = (*self.rungs, self.epochs)
        lengths = [end - start for start, end in zip((0, *ends), ends, strict=False)]
        return trials * sum(length / self.reduction**rung for rung, length in enumerate(lengths))

    def hold(self, number: int, standings: Standings) -> str | None:
        """Why trial `number` should wait after its last epoch; None when it should go on."""
        trial = standings[number]
        if trial.epochs not in self.rungs:
            return None
        at = standings.at(trial.epochs)
        places = max(1, len(at) // self.reduction)
        if bisect_left(at, (trial.curve[trial.epochs],)) < places:
            return None
        return f"{self.rank(number, standings)}; the best {places} went on"

    @staticmethod
    def rank(number: int, standings: Standings) -> str:
        """Where trial `number` is among those that came as far, in words; equal errors share a rank."""
        trial = standings[number]
        at = standings.at(trial.epochs)
        rank = 1 + bisect_left(at, (trial.curve[trial.epochs],))
        return f"rank {rank} of {len(at)} after {plural(trial.epochs, 'epoch')}"

    def promote(self, standings: Standings, waiting: Collection[int]) -> int | None:
        """Which of the `waiting` trials goes on next; None when none should.

        That is the best among the best 1/`reduction` of its rung, of the highest rung that has one.
        """
        if not waiting:
            return None
        for rung in reversed(self.rungs):
            at = standings.at(rung)
            if places := len(at) // self.reduction:
                for error, number in at:
                    if error > at[places - 1][0]:
                        break
                    if number in waiting and standings[number].epochs == rung:
                        return number
        return None


def make_scheduler(search: SearchSpec, epochs: int) -> Halving:
    """The scheduler of a study whose complete trials train for `epochs`."""
    first = search.first_rung if search.scheduler is Scheduler.ASHA else epochs
    return Halving(first, search.reduction, epochs)
