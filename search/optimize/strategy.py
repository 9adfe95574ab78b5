"""Which trial is next: one to promote, or a new one; decided from the study's records alone."""

from dataclasses import dataclass, field
from typing import Protocol

from search.optimize.samplers import NOTHING, Proposer, gather
from search.optimize.schedulers import Held, Scheduler
from search.records import Asked, Ledger, TrialRecord

REFUSALS = 1_000  # proposals beyond the limits, one after another, after which the search gives up


class Course(Protocol):
    """What the searcher asks: which trial is next, and how far each goes."""

    @property
    def ledger(self) -> Ledger:
        """The records from which all is decided."""
        ...

    @property
    def unfinished(self) -> list[Asked]:
        """Trials that an earlier process left at work."""
        ...

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that wait to be promoted."""
        ...

    def judge(self, number: int) -> Held | None:
        """Why trial `number` does not go on after its last epoch; None when it does."""
        ...

    def wait(self, number: int) -> None:
        """Trial `number` is held, and may be promoted."""
        ...

    def next(self) -> Asked | None:
        """The trial to run now; None when there is none at the moment, or none any more."""
        ...


@dataclass
class Strategy:
    """Brings together who proposes trials and who decides how far they go.

    Args:
        ledger: of the study.
        proposer: of new configurations.
        scheduler: decides at the rungs.
        trials: how many the study has in all; those beyond its limits do not count.
        epochs: of a complete trial.
    """

    ledger: Ledger
    proposer: Proposer
    scheduler: Scheduler
    trials: int
    epochs: int
    _waiting: set[int] = field(default_factory=set, init=False)
    _taken: set[str] = field(default_factory=set, init=False)
    _started: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._waiting.update(self.ledger.waiting)
        for record in self.ledger.records:
            self._take(record)

    @property
    def unfinished(self) -> list[Asked]:
        """Trials that an earlier process left at work, by number; those that wait are not among them."""
        open_ = (r.number for r in self.ledger.records if r.running and r.number not in self._waiting)
        return [self.ledger.asked(number) for number in open_]

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that wait to be promoted."""
        return frozenset(self._waiting)

    @property
    def started(self) -> int:
        """Trials that the study itself began so far."""
        return self._started

    @property
    def all_proposed(self) -> bool:
        """Whether no new trial will come any more."""
        return self.started >= self.trials or self.ledger.exhausted is not None

    def judge(self, number: int) -> Held | None:
        """Why trial `number` does not go on after its last epoch; None when it does."""
        # A process may die after the last epoch is on record and before the ending is: that trial is over.
        compared = 0 < self.ledger.record(number).epochs < self.epochs
        return self.scheduler.hold(number, self.ledger.standings) if compared else None

    def wait(self, number: int) -> None:
        """Trial `number` is held, and may be promoted."""
        self.ledger.hold(number)
        self._waiting.add(number)

    def next(self) -> Asked | None:
        """The trial to run now; None when there is none at the moment, or none any more."""
        # That nothing more can be proposed may be found out here, and decide who is promoted.
        return self._promoted() or self._new() or self._promoted()

    def _promoted(self) -> Asked | None:
        number = self.scheduler.promote(self.ledger.standings, self._waiting, self.all_proposed)
        if number is None:
            return None
        self._waiting.remove(number)
        return self.ledger.asked(number)

    def _new(self) -> Asked | None:
        if self.all_proposed:
            return None
        for _ in range(REFUSALS):
            standings = self.ledger.standings
            number = len(standings)
            known = gather(standings, self.scheduler.rungs, self.epochs) if self.proposer.learns else NOTHING
            chosen = self.proposer.propose(number, known, self._taken)
            if chosen is None:
                beyond = sum(r.refused for r in standings)
                but = f", but for {beyond:,} beyond the limits" if beyond else ""
                self.ledger.exhaust(f"all {len(self._taken):,} configurations of the space have been tried{but}")
                return None
            asked = self.ledger.add(chosen)
            self._take(self.ledger.record(number))
            if asked:
                return asked
        last = self.ledger.records[-1].reason
        self.ledger.exhaust(f"{REFUSALS:,} proposals in a row were beyond the limits (the last: {last})")
        return None

    def _take(self, record: TrialRecord) -> None:
        self._started += not record.refused and record.origin is None
        if self.proposer.finite or self.proposer.starts:
            self._taken.add(self.proposer.space.key(record.params))
