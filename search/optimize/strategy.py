"""The plan of a search: which trial is next, one to promote or a new one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from resnet import cost
from search.optimize.plan import Candidate, Plan
from search.optimize.samplers import Evidence, Proposer, gather
from search.optimize.schedulers import Halving, make_scheduler
from search.records import Asked, Ledger, TrialRecord, TrialState
from search.spec import SearchSpec, Space, StudySpec, TrialSpec

REFUSALS = 1_000  # proposals beyond the limits, one after another, after which the search gives up


@dataclass
class Strategy(Plan):
    """Brings together who proposes trials and who decides how far they go."""

    ledger: Ledger
    proposer: Proposer
    scheduler: Halving
    search: SearchSpec  # how many trials there are to be, but for those beyond the limits, and how long it may take
    epochs: int  # of a complete trial
    candidates: Sequence[Candidate] = field(default=(), init=False)
    final: ClassVar[bool] = False
    _waiting: set[int] = field(default_factory=set, init=False)
    _taken: set[str] = field(default_factory=set, init=False)
    _started: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.time_budget = self.search.time_budget
        self._waiting.update(self.ledger.waiting)
        for record in self.ledger.records:
            self._take(record)

    @property
    def total(self) -> int:
        """Trials that were asked for."""
        return self.search.trials

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to run."""
        return self.records.is_complete(self.search, self.ledger.elapsed, self.ledger.exhausted)

    @property
    def stop_reason(self) -> str | None:
        """Why there are fewer trials than were asked for."""
        return self.records.stop_reason(self.search, self.ledger.elapsed, self.ledger.exhausted)

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that wait to be promoted."""
        return frozenset(self._waiting)

    def hold(self, number: int) -> bool:
        """Whether trial `number` does not go on after its last epoch; then it waits to be promoted."""
        if self._judge(number) is None:
            return False
        self.ledger.hold(number)
        self._waiting.add(number)
        return True

    def next(self) -> Asked | None:
        """The trial to run now; None when there is none at the moment, or none any more."""
        return self._promoted() or self._new()

    def endings(self) -> Iterator[tuple[int, TrialState, str]]:
        """Trials that wait are stopped; where the time is used up, so are those that run."""
        for number in sorted(self._waiting):
            yield number, TrialState.PRUNED, self._judge(number) or "the search ended before its turn came"
        if self.budget_used(self.ledger.elapsed):
            spent = f"time budget of {self.time_budget:g} s spent"
            yield from [(r.number, TrialState.PRUNED, spent) for r in self.records if r.running]

    def largest(self, image: tuple[int, int]) -> TrialSpec:
        """The trial of the space that keeps most for its backward pass."""
        space = self.proposer.space
        net = max(space.extremes(), key=lambda net: cost(net, image).activation_bytes)
        sizes = [v for d in space.dimensions if d.path == "train.batch_size" for v in d.extremes if isinstance(v, int)]
        fixed = {path: value for path, value in space.fixed.items() if path.startswith("train.")}
        trial = TrialSpec.from_flat(fixed | ({"train.batch_size": max(sizes)} if sizes else {}))
        return trial.model_copy(update={"net": net})

    def _judge(self, number: int) -> str | None:
        # A process may die after the last epoch is on record and before the ending is: that trial is over.
        compared = 0 < self.ledger.record(number).epochs < self.epochs
        return self.scheduler.hold(number, self.ledger.standings) if compared else None

    def _promoted(self) -> Asked | None:
        number = self.scheduler.promote(self.ledger.standings, self._waiting)
        if number is None:
            return None
        self._waiting.remove(number)
        return self.ledger.asked(number)

    def _new(self) -> Asked | None:
        if self._started >= self.total or self.ledger.exhausted is not None:
            return None
        for _ in range(REFUSALS):
            standings = self.ledger.standings
            number = len(standings)
            known = gather(standings, self.scheduler.rungs, self.epochs) if self.proposer.learns else Evidence()
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
        last = self.records[-1].reason
        self.ledger.exhaust(f"{REFUSALS:,} proposals in a row were beyond the limits (the last: {last})")
        return None

    def _take(self, record: TrialRecord) -> None:
        self._started += not record.refused
        if self.proposer.finite or self.proposer.starts:
            self._taken.add(self.proposer.space.key(record.params))


def plan_search(spec: StudySpec, space: Space, ledger: Ledger) -> Strategy:
    """The plan of a study's search; one that compares searches nothing.

    Args:
        spec, space, ledger: of the study.
    """
    search = spec.search.model_copy(update={"trials": 0}) if spec.compare else spec.search
    proposer = Proposer.of(spec, space, ledger.starts)
    return Strategy(ledger, proposer, make_scheduler(search, spec.epochs), search, spec.epochs)
