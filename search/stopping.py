"""Who goes on: schedulers decide from the study's own records, so a continued study decides the same."""

from collections.abc import Collection
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from search.records import WORST
from search.standings import Standings, better

FEW = 3  # trials at an epoch below which a median says nothing


@dataclass(frozen=True)
class Held:
    """Why a trial does not go on now."""

    reason: str
    final: bool  # False: it waits at its checkpoint, and may be promoted


class Scheduler(Protocol):
    """Decides about trials at equal numbers of epochs."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are compared, upwards; the last epoch of a trial is none."""
        ...

    def hold(self, number: int, standings: Standings) -> Held | None:
        """Why trial `number` should not go on after its last epoch; None when it should."""
        ...

    def promote(self, standings: Standings, waiting: Collection[int], complete: bool) -> int | None:
        """Which of the `waiting` trials goes on next; None when none should.

        `complete` says that no new trial will come.
        """
        ...


@dataclass(frozen=True)
class NoStopping:
    """Every trial trains for all epochs."""

    rungs: tuple[int, ...] = ()

    def hold(self, number: int, standings: Standings) -> Held | None:
        """Never."""
        del number, standings
        return None

    def promote(self, standings: Standings, waiting: Collection[int], complete: bool) -> int | None:
        """None waits."""
        del standings, waiting, complete
        return None


@dataclass(frozen=True)
class MedianStopping:
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
        averages = [standings[n].averages.get(epoch, WORST) for _, n in standings.at(epoch) if n != number]
        if len(averages) < FEW:
            return None
        best, middle = min(trial.curve.values()), median(averages)
        if best <= middle:
            return None
        return Held(f"best error {best:.4g} % above {middle:.4g} %, the median of {len(averages)} others", final=True)

    def promote(self, standings: Standings, waiting: Collection[int], complete: bool) -> int | None:
        """None waits."""
        del standings, waiting, complete
        return None


@dataclass(frozen=True)
class OneEpochTopK:
    """All trials train one epoch; the best few then train to the end. A baseline: one epoch often says little.

    Args:
        top: how many train to the end.
    """

    top: int
    rungs: tuple[int, ...] = (1,)

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
