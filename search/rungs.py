"""Asynchronous successive halving from the study's own records (arXiv:1810.05934, algorithm 2, stopping variant)."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.records import TrialRecord


@dataclass(frozen=True)
class Halving:
    """Trials are compared at equal numbers of epochs; the best 1/`reduction` of those seen so far go on.

    Args:
        first_rung: epochs before the first comparison.
        reduction: ratio between rungs, and how many trials compete for one place in the next.
        epochs: epochs of a complete trial, where nothing is stopped any more.
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

    def first(self, epochs: int) -> int:
        """The first epoch at which all trials can be compared."""
        return self.rungs[0] if self.rungs else epochs

    def stop(self, number: int, records: Sequence[TrialRecord]) -> str | None:
        """Why trial `number` should not go on after its last epoch; None when it should."""
        trial = next(r for r in records if r.number == number)
        if trial.epochs not in self.rungs:
            return None
        errors = [r.curve[trial.epochs] for r in records if trial.epochs in r.curve]
        places = max(1, len(errors) // self.reduction)
        rank = 1 + sum(error < trial.curve[trial.epochs] for error in errors)
        if rank <= places:
            return None
        return f"rank {rank} of {len(errors)} after {trial.epochs} epochs; the best {places} went on"


@dataclass(frozen=True)
class NoHalving:
    """Every trial trains for all epochs."""

    def first(self, epochs: int) -> int:
        """The last epoch."""
        return epochs

    def stop(self, number: int, records: Sequence[TrialRecord]) -> str | None:
        """Never."""
        del number, records
        return None
