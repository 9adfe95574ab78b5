"""The scheduler that a study asks for: which trials stop at which epoch, and which go on later."""

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from search.formatting import plural
from search.records import Standings, TrialRecord
from search.spec import Scheduler as Kind
from search.spec import SearchSpec

FEW = 3  # trials at an epoch below which a median says nothing


@dataclass(frozen=True)
class Held:
    """Why a trial does not go on now."""

    reason: str
    final: bool  # False: it waits at its checkpoint, and may be promoted


class Scheduler:
    """Decides about trials at equal numbers of epochs."""

    epochs: int  # of a complete trial

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are compared, upwards; the last epoch of a trial is none."""
        return ()

    @property
    def first_compared(self) -> int:
        """The first epoch at which all trials can be compared."""
        return (*self.rungs, self.epochs)[0]

    def hold(self, number: int, standings: Standings) -> Held | None:
        """Why trial `number` should not go on after its last epoch; None when it should."""

    def promote(self, standings: Standings, waiting: Collection[int], complete: bool) -> int | None:
        """Which of the `waiting` trials goes on next; None when none should, as where none is made to wait.

        `complete` says that no new trial will come.
        """

    def fewest_epochs(self, trials: int) -> float | None:
        """Epochs of so many trials when it stops all that it can; None where that is not known."""
        return None if self.rungs else trials * self.epochs


@dataclass(frozen=True)
class NoStopping(Scheduler):
    """Every trial trains for all epochs."""

    epochs: int


@dataclass(frozen=True)
class MedianStopping(Scheduler):
    """A trial ends whose best error is above the median of the others' averages over the same epochs.

    Source: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.1.

    Args:
        first_rung: epochs before the first comparison; from there on every epoch is one.
        epochs: epochs of a complete trial.
    """

    first_rung: int
    epochs: int

    @property
    def rungs(self) -> tuple[int, ...]:
        """Every epoch from `first_rung` on."""
        return tuple(range(self.first_rung, self.epochs))

    def hold(self, number: int, standings: Standings) -> Held | None:
        """Why trial `number` ends here; None when it goes on, as it does with fewer than 3 others to compare with."""
        trial = standings[number]
        epoch = trial.epochs
        if epoch not in self.rungs:
            return None
        # One that diverged before counts as bad as a trial can be.
        averages = [standings[n].averages.get(epoch, TrialRecord.WORST) for _, n in standings.at(epoch) if n != number]
        if len(averages) < FEW:
            return None
        best, middle = min(trial.curve.values()), median(averages)
        if best <= middle:
            return None
        return Held(f"best error {best:.4g} % above {middle:.4g} %, the median of {len(averages)} others", final=True)


@dataclass(frozen=True)
class OneEpochTopK(Scheduler):
    """All trials train one epoch; the best few then train to the end. A baseline: one epoch often says little.

    Args:
        top: how many train to the end.
        epochs: epochs of a complete trial.
    """

    top: int
    epochs: int

    @property
    def rungs(self) -> tuple[int, ...]:
        """After the first epoch."""
        return (1,)

    def fewest_epochs(self, trials: int) -> float:
        """As `Scheduler`."""
        return trials + min(self.top, trials) * (self.epochs - 1)

    def hold(self, number: int, standings: Standings) -> Held | None:
        """Every trial waits after its first epoch."""
        trial = standings[number]
        if trial.epochs != 1:
            return None
        at = standings.at(1)
        rank = 1 + better(trial.curve[1], at)
        return Held(f"rank {rank} of {len(at)} after 1 epoch; the best {self.top} go on", final=False)

    def promote(self, standings: Standings, waiting: Collection[int], complete: bool) -> int | None:
        """The best that waits of the best `top`, once all trials have had their epoch."""
        if not complete or any(r.running and not r.curve for r in standings):
            return None
        return next((number for _, number in standings.at(1)[: self.top] if number in waiting), None)


@dataclass(frozen=True)
class Halving(Scheduler):
    """Trials are compared at equal numbers of epochs; the best 1/`reduction` of those seen so far go on.

    A trial that is among them when it arrives goes on at once. One that is not waits at its checkpoint, and goes on
    when enough worse ones have come after it: nothing good is lost by having come early. (arXiv:1810.05934, algorithm
    2, promotes only; going on at once spares the wait where the answer is known.)

    Args:
        first_rung: epochs before the first comparison.
        reduction: ratio between rungs, and how many trials compete for one place in the next.
        epochs: epochs of a complete trial, where nothing is compared any more.
    """

    first_rung: int
    reduction: int
    epochs: int

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are compared."""
        rungs, rung = [], self.first_rung
        while rung < self.epochs:
            rungs.append(rung)
            rung *= self.reduction
        return tuple(rungs)

    def fewest_epochs(self, trials: int) -> float:
        """As `Scheduler`, when 1/`reduction` of those at each rung go on."""
        ends = (*self.rungs, self.epochs)
        lengths = [end - start for start, end in zip((0, *ends), ends, strict=False)]
        return trials * sum(length / self.reduction**rung for rung, length in enumerate(lengths))

    def hold(self, number: int, standings: Standings) -> Held | None:
        """Why trial `number` should wait after its last epoch; None when it should go on."""
        trial = standings[number]
        if trial.epochs not in self.rungs:
            return None
        at = standings.at(trial.epochs)
        places = max(1, len(at) // self.reduction)
        rank = 1 + better(trial.curve[trial.epochs], at)
        if rank <= places:
            return None
        after = plural(trial.epochs, "epoch")
        return Held(f"rank {rank} of {len(at)} after {after}; the best {places} went on", final=False)

    def promote(self, standings: Standings, waiting: Collection[int], complete: bool) -> int | None:
        """The best that waits among the best 1/`reduction` of its rung, of the highest rung that has one."""
        del complete
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


@dataclass(frozen=True)
class Hyperband(Scheduler):
    """Trials are dealt out to brackets, each a `Halving` with a later first rung, as a hedge against early errors.

    Brackets get as many trials as the original's: proportional to reduction ** s / (s + 1) for the bracket with s
    rungs, rounded up as in arXiv:1603.06560, algorithm 1, and dealt by the trial's number, so that every stretch of the
    study has them in these proportions.

    Args:
        first_rung: epochs before the first comparison of the bracket that stops earliest.
        reduction: as in `Halving`.
        epochs: epochs of a complete trial.
    """

    first_rung: int
    reduction: int
    epochs: int

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials of some bracket are compared: those of the bracket that stops earliest."""
        return self.brackets[0].rungs

    @cached_property
    def brackets(self) -> tuple[Halving, ...]:
        """The one that stops earliest first; the last compares nothing."""
        rungs = Halving(self.first_rung, self.reduction, self.epochs).rungs
        return tuple(Halving(rung, self.reduction, self.epochs) for rung in (*rungs, self.epochs))

    def bracket(self, number: int) -> int:
        """The bracket of a trial: place `number` in a fixed deal that repeats."""
        return self._deal[number % len(self._deal)]

    def fewest_epochs(self, trials: int) -> float:
        """As `Scheduler`, each trial in its bracket."""
        return sum(self.brackets[self.bracket(number)].fewest_epochs(1) for number in range(trials))

    def hold(self, number: int, standings: Standings) -> Held | None:
        """Why trial `number` should wait after its last epoch, compared within its bracket."""
        bracket = self.bracket(number)
        return self.brackets[bracket].hold(number, self._of(bracket, standings))

    def promote(self, standings: Standings, waiting: Collection[int], complete: bool) -> int | None:
        """As in `Halving`, of the first bracket that has one."""
        for bracket, halving in enumerate(self.brackets):
            found = halving.promote(self._of(bracket, standings), waiting, complete)
            if found is not None:
                return found
        return None

    def _of(self, bracket: int, standings: Standings) -> Standings:
        return standings.only(lambda number: self.bracket(number) == bracket)

    @cached_property
    def _deal(self) -> tuple[int, ...]:
        most = len(self.brackets) - 1
        shares = [math.ceil((most + 1) * self.reduction**s / (s + 1)) for s in range(most, -1, -1)]
        # Each in turn, where it is furthest behind its share.
        dealt = [0] * len(shares)
        deal = []
        for given in range(1, sum(shares) + 1):
            behind = [share * given / sum(shares) - done for share, done in zip(shares, dealt, strict=True)]
            chosen = behind.index(max(behind))
            dealt[chosen] += 1
            deal.append(chosen)
        return tuple(deal)


def better(error: float, places: Sequence[tuple[float, int]]) -> int:
    """How many of these (errors, numbers), best first, have a lower error."""
    return bisect_left(places, (error,))


def make_scheduler(search: SearchSpec, epochs: int) -> Scheduler:
    """The scheduler of a study whose complete trials train for `epochs`."""
    first = search.first_rung
    match search.scheduler:
        case Kind.ASHA:
            return Halving(first, search.reduction, epochs)
        case Kind.HYPERBAND:
            return Hyperband(first, search.reduction, epochs)
        case Kind.MEDIAN:
            return MedianStopping(first, epochs)
        case Kind.ONE_EPOCH_TOP_K:
            return OneEpochTopK(search.top_k, epochs)
        case Kind.NONE:
            return NoStopping(epochs)
