"""What a study trains: its search and its finals are two plans, which one loop runs."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from search.records import Asked, End, Ledger, Spent, TrialRecord, Trials, TrialState
from search.spec import TrialSpec

SEED = "train.seed"


@dataclass(frozen=True)
class Candidate:
    """A configuration that takes part in the finals; its `spec` is trained with seeds 0, 1, 2 ..."""

    number: int  # of the trial, or among those that the study compares
    spec: TrialSpec
    label: str | None = None
    published: tuple[str, ...] = ()  # keys of published figures
    against: str | None = None  # label of the row that it is compared with


class Plan(ABC):
    """Which training is next, how far each goes, and when it is over; decided from the ledger alone.

    Properties write nothing.
    """

    ledger: Ledger
    candidates: Sequence[Candidate]  # of the finals; none in a search
    metric: str  # of an epoch, the error that is recorded
    final: ClassVar[bool]  # trains on train + validation, then tests

    @property
    def records(self) -> Trials:
        """The trainings that were begun; in a search also proposals beyond the limits."""
        return self.ledger.records

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which a trial may be held, upwards."""
        return ()

    @property
    @abstractmethod
    def total(self) -> int:
        """How many trainings there are to be, as far as is decided."""

    @property
    def finished(self) -> int:
        """How many are over; proposals beyond the limits do not count."""
        return self.records.finished

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether nothing is left to train."""

    @property
    def unfinished(self) -> list[Asked]:
        """Trainings that an earlier process left at work, by number; those that wait are not among them."""
        waiting = self.waiting
        return [self.ledger.asked(r.number) for r in self.records if r.running and r.number not in waiting]

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that wait to be promoted."""
        return frozenset()

    @abstractmethod
    def next(self) -> Asked | None:
        """The training to run now; None when there is none at the moment, or none any more."""

    def beside(self, asked: Asked) -> Asked | None:
        """Returns a training that can start now and has the same steps as `asked`, or None."""
        return None

    def hold(self, number: int) -> bool:
        """Whether trial `number` does not go on after its last epoch; then it waits to be promoted."""
        return False

    @abstractmethod
    def endings(self) -> Iterable[tuple[int, TrialState, str]]:
        """Number, state and reason of what is open and ends where it is, once no training will be started any more."""

    @abstractmethod
    def largest(self, image: tuple[int, int]) -> TrialSpec:
        """The training that keeps most for its backward pass, on images of `image` (height, width)."""

    @abstractmethod
    def end(self, spent: Spent, kept: Spent) -> End | None:
        """Why no further epoch begins; None where one may.

        Args:
            spent: by this stage so far, whether it is written down or not.
            kept: what the finals need of the budgets of the search.
        """


def title(record: TrialRecord, candidates: Sequence[Candidate] = ()) -> str:
    """What a training is called: `trial 7`; of one of the `candidates` `finalist 7, seed 1`, or its label."""
    if record.finalist is None:
        return f"trial {record.number}"
    label = next((c.label for c in candidates if c.number == record.finalist), None)
    return f"{label or f'finalist {record.finalist}'}, seed {record.seed}"
