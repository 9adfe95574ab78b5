"""The plan of a search: which trial is next, one to promote or a new one."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from search.optimize.freeze_thaw import Begin, FreezeThaw, Rest
from search.optimize.plan import Candidate, Plan
from search.optimize.samplers import Proposer
from search.optimize.schedulers import Halving, make_scheduler
from search.records import Asked, End, Ledger, Spent, TrialRecord, TrialState
from search.spec import LimitSpec, Sampler, SearchSpec, Space, StudySpec, TrialSpec, Value, appraise

PIONEERS = 2  # starts that train to the end whatever comes: what early epochs say is measured against them
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
    _model: FreezeThaw | None = field(default=None, init=False)
    _ended: End | None = field(default=None, init=False)
    _judged: int = field(default=0, init=False)  # complete trials from which no end followed
    _decided: int | Begin | Rest | None = field(
        default=None, init=False
    )  # the next step, by a trial that came to a rung

    def __post_init__(self) -> None:
        self.metric = f"val/{self.search.measure}"
        rungs = (*self.scheduler.rungs, self.epochs)
        anchored = self.proposer.kind is Sampler.AUTO and len(self.proposer.starts) >= PIONEERS
        if anchored or self.proposer.kind is Sampler.FREEZE_THAW:
            self._model = FreezeThaw(self.proposer.space, rungs, self.search.seed, self.search.objectives[1:])
        self._pioneers = range(min(PIONEERS, len(self.proposer.starts)))
        self._waiting.update(self.ledger.waiting)
        noted = self.ledger.course.ended
        self._ended = noted if noted and noted.holds(self.search) else None
        for record in self.ledger.records:
            self._take(record)

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which a trial may be held, upwards."""
        return self.scheduler.rungs

    @property
    def total(self) -> int:
        """Trials that were asked for."""
        return self.search.trials

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to run."""
        return self.records.is_complete(self.search, self.ledger.course)

    @property
    def stop_reason(self) -> str | None:
        """Why there are fewer trials than were asked for."""
        return self.records.stop_reason(self.search, self.ledger.course)

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that wait to be promoted."""
        return frozenset(self._waiting)

    def hold(self, number: int) -> bool:
        """Whether trial `number` does not go on after its last epoch; then it waits to be promoted."""
        if number in self._waiting:  # Tune tells the last result of a trial twice
            return True
        if self._goes_on(number):
            return False
        self.ledger.hold(number)
        self._waiting.add(number)
        return True

    def next(self) -> Asked | None:
        """The trial to run now; None when there is none at the moment, or none any more."""
        step, self._decided = self._decided or self._step(self._waiting), None
        match step:
            case int() if step in self._waiting:
                self._waiting.remove(step)
                return self.ledger.asked(step)
            case Begin():
                return self._new(step.chosen)
            case Rest():
                return None
            case _:
                return self._promoted() or self._new()

    def endings(self) -> Iterator[tuple[int, TrialState, str]]:
        """Trials that wait are stopped; where the search has an end, so are those that run."""
        for number in sorted(self._waiting):
            yield number, TrialState.PRUNED, self._why(number)
        if ended := self.ledger.course.end(self.search, self.records):
            yield from [(r.number, TrialState.PRUNED, ended.reason) for r in self.records if r.running]

    def end(self, spent: Spent, kept: Spent) -> End | None:
        """Why no further epoch begins; None where one may."""
        if self._ended is None:
            self._ended = End.of_spent(self.search, spent, kept)
        complete = self.ledger.standings.complete
        if self._ended is None and len(complete) > self._judged:
            self._ended, self._judged = End.of_found(self.search, complete), len(complete)
        return self._ended

    def largest(self, image: tuple[int, int]) -> TrialSpec:
        """The trial of the space that keeps most for its backward pass."""
        space = self.proposer.space
        largest = max(space.extremes(), key=lambda trial: appraise(trial, image, LimitSpec()).activation_bytes)
        sizes = [v for d in space.dimensions if d.path == "train.batch_size" for v in d.extremes if isinstance(v, int)]
        fixed = {path: value for path, value in space.fixed.items() if path.startswith("train.")}
        trial = TrialSpec.from_flat(fixed | ({"train.batch_size": max(sizes)} if sizes else {}))
        train = trial.train.model_copy(update={"image_size": largest.train.image_size})
        return TrialSpec(net=largest.net, train=train)

    def _goes_on(self, number: int) -> bool:
        # A process may die after the last epoch is on record and before the ending is: that trial is over.
        epochs = self.ledger.record(number).epochs
        if not 0 < epochs < self.epochs or epochs not in self.scheduler.rungs or number in self._pioneers:
            return True
        step = self._step({*self._waiting, number})
        self._decided = None if step == number else step
        return step == number or (step is None and self.scheduler.hold(number, self.ledger.standings) is None)

    def _why(self, number: int) -> str:
        """Why a trial that waits was not continued."""
        standings = self.ledger.standings
        if self._model is not None and 0 < standings[number].epochs < self.epochs:
            return f"{self.scheduler.rank(number, standings)}; others promised more"
        return self.scheduler.hold(number, standings) or "the search ended before its turn came"

    def _step(self, waiting: Collection[int]) -> int | Begin | Rest | None:
        """What the model would do now; None where it has nothing to say, or starts are left."""
        if self._model is None or (self._begins and self.proposer.start(self._taken) is not None):
            return None
        left = self._left(waiting)
        able = {number for number in waiting if self._way(number) <= left}
        return self._model.step(self.ledger.standings, able, self._is_fresh if self._begins else None)

    @property
    def _begins(self) -> bool:
        return self._started < self.total and self.ledger.exhausted is None

    def _is_fresh(self, chosen: Mapping[str, Value]) -> bool:
        return not self.proposer.finite or self.proposer.space.key(chosen) not in self._taken

    def _left(self, waiting: Collection[int]) -> float:
        """Epochs that are left of those of the pioneers and of halving for the others, but for first rungs to come."""
        kept = (self.total - self._started) * self.scheduler.first_compared
        used = sum(
            r.epochs + (self._way(r.number) if r.running and r.number not in waiting else 0) for r in self.records
        )
        pioneers = len(self._pioneers)
        return self.scheduler.fewest_epochs(self.total - pioneers) + pioneers * self.epochs - used - kept

    def _way(self, number: int) -> int:
        """Epochs from where a trial is to its next rung."""
        epochs = self.ledger.record(number).epochs
        return self.scheduler.after(epochs) - epochs

    def _promoted(self) -> Asked | None:
        number = self.scheduler.promote(self.ledger.standings, self._waiting)
        if number is None:
            return None
        self._waiting.remove(number)
        return self.ledger.asked(number)

    def _new(self, chosen: dict[str, Value] | None = None) -> Asked | None:
        """A new trial, of the configuration that is `chosen` already or is chosen now."""
        if not self._begins:
            return None
        for _ in range(REFUSALS):
            number = len(self.ledger.standings)
            chosen = chosen or self._proposed()
            if chosen is None:
                beyond = sum(r.refused for r in self.ledger.standings)
                but = f", but for {beyond:,} beyond the limits" if beyond else ""
                self.ledger.exhaust(f"all {len(self._taken):,} configurations of the space have been tried{but}")
                return None
            asked = self.ledger.add(chosen)
            self._take(self.ledger.record(number))
            if asked:
                return asked
            chosen = None
        last = self.records[-1].reason
        self.ledger.exhaust(f"{REFUSALS:,} proposals in a row were beyond the limits (the last: {last})")
        return None

    def _proposed(self) -> dict[str, Value] | None:
        step = self._step(())
        if isinstance(step, Begin):
            return step.chosen
        return self.proposer.propose(len(self.ledger.standings), self._taken)

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
    proposer = Proposer.of(search, space, ledger.starts)
    return Strategy(ledger, proposer, make_scheduler(search, spec.epochs), search, spec.epochs)
