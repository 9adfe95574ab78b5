"""Successive halving from the study's own records: asynchronous (`Halving`), and several of them (`Hyperband`)."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from search.report_words import plural
from search.standings import Standings, better
from search.stopping import Held


@dataclass(frozen=True)
class Halving:
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
class Hyperband:
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
