"""Who proposes the next trial: from the starts, the records, the seed and the trial's number alone."""

import copy
import datetime
import hashlib
import random
import warnings
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from search.errors import InputError
from search.records import Standings, Start, TrialRecord
from search.spec import Objective, Sampler, SearchSpec, Space, Value

ENOUGH = 10  # trials at a rung, for a model of it
STARTUP = 15  # trials of a rung before a model of it is asked; until then, proposals are random
EXPLORED = 0.2  # share of proposals that stay random: a model can take the best that it saw for the best there is
TRIES = 20  # proposals that repeat a configuration before the rest is enumerated
ENUMERATED = 100_000  # configurations; spaces with more are called infinite
MOST = 100  # observations of a model: more make it slower and hardly better
BEST = 25  # of them at least, from the best down: as many as TPE's good half ever holds
_SOME_TIME = datetime.datetime(2000, 1, 1)  # Optuna asks when a trial ended, and makes nothing of it


@dataclass(frozen=True)
class Evidence:
    """Trials compared after equal numbers of epochs, best first; refused ones; and those at work without a result."""

    observed: Sequence[TrialRecord] = ()
    infeasible: Sequence[TrialRecord] = ()
    pending: Sequence[TrialRecord] = ()


def gather(standings: Standings, rungs: Sequence[int], epochs: int) -> Evidence:
    """The trials that reached the highest rung which `ENOUGH` have reached, or else the first rung.

    One rung at a time, as in BOHB (arXiv:1807.01774, section 3.2): errors after unequal numbers of epochs say more of
    the epochs than of the configurations. A trial that diverged before the rung counts as the worst there; one that
    waits at a lower rung does not count.
    """
    able = {record.number for record in standings if not record.beyond}
    reached: list[TrialRecord] = []
    for rung in reversed((*rungs, epochs)):
        reached = [standings[number] for _, number in standings.at(rung) if number in able]
        if len(reached) >= ENOUGH:
            break
    elsewhere = able - {record.number for record in reached}
    return Evidence(
        reached,
        [record for record in standings if record.number not in able],
        [r for r in standings if r.number in elsewhere and r.running and r.epochs not in rungs],
    )


def _seed(*words: object) -> int:
    """31 bits that follow from these words."""
    digest = hashlib.sha256(",".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


@dataclass
class Proposer:
    """Proposes configurations: first the `starts`, then what the sampler says, in a finite space none twice."""

    space: Space
    kind: Sampler
    seed: int
    objectives: Sequence[Objective] = (Objective.VAL_ERROR,)  # the validation error first
    starts: Sequence[Start] = ()
    _rest: Iterator[dict[str, Value]] | None = field(default=None, init=False)
    _parameters: dict[int, dict[str, Value]] = field(default_factory=dict, init=False)  # of trials, by number

    @classmethod
    def of(cls, search: SearchSpec, space: Space, starts: Sequence[Start]) -> "Proposer":
        """As a study asks for it.

        Raises:
            InputError: the sampler is not for this space.
        """
        return cls(space, search.sampler, search.seed, search.objectives, starts)

    def __post_init__(self) -> None:
        if self.kind is Sampler.GRID and not self.finite:
            endless = [d.path for d in self.space.dimensions if d.values is None]
            cause = f"it has more than {ENUMERATED:,} configurations; remove some choices"
            if endless:
                cause = f"{endless[0]} is a continuum; give it choices, or a step"
            raise InputError(f"search.sampler = grid cannot exhaust this space: {cause} (or use another sampler)")

    @cached_property
    def finite(self) -> bool:
        """Whether the space has so few configurations that none need be tried twice."""
        return (
            all(d.values is not None for d in self.space.dimensions) and self.space.size(ENUMERATED + 1) <= ENUMERATED
        )

    @property
    def learns(self) -> bool:
        """Whether proposals follow from the evidence."""
        return self.kind is Sampler.TPE

    @property
    def example(self) -> dict[str, Value] | None:
        """What it would propose first; None where the space holds nothing."""
        return self.propose(0, Evidence(), frozenset())

    def propose(self, number: int, evidence: Evidence, taken: Set[str]) -> dict[str, Value] | None:
        """A configuration for trial `number` whose key is not among `taken`; None when the space is exhausted."""
        if (start := self.start(taken)) is not None:
            return start
        if self.kind is Sampler.GRID:
            return self._untried(taken)
        for attempt in range(TRIES if self.finite else 1):
            chosen = self._draw(number, attempt, evidence)
            if not self.finite or self.space.key(chosen) not in taken:
                return chosen
        return self._untried(taken)

    def start(self, taken: Set[str]) -> dict[str, Value] | None:
        """The first of the starts whose key is not among `taken`."""
        return next((start.chosen for start in self.starts if self.space.key(start.chosen) not in taken), None)

    def _untried(self, taken: Set[str]) -> dict[str, Value] | None:
        # What is taken stays taken, so the search through the rest goes on where it stopped.
        if self._rest is None:
            every = list(self.space.combinations(values=True))
            random.Random(self.seed).shuffle(every)  # so that a part of the grid is a fair sample of it
            self._rest = iter(every)
        return next((chosen for chosen in self._rest if self.space.key(chosen) not in taken), None)

    def _draw(self, number: int, attempt: int, evidence: Evidence) -> dict[str, Value]:
        seed = _seed(self.seed, number, attempt) if attempt else _seed(self.seed, number)
        explores = random.Random(_seed(self.seed, number, "explore")).random() < EXPLORED
        if not self.learns or explores or len(evidence.observed) < STARTUP:
            study = optuna.create_study(sampler=RandomSampler(seed=seed))
        else:
            study = self._model(seed, evidence)
        trial = study.ask()
        return self.space.draw(lambda dimension: dimension.suggest(trial))

    def _model(self, seed: int, evidence: Evidence) -> optuna.Study:
        with warnings.catch_warnings():  # `group` is what models conditional parameters, and is called experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            tpe = TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=0)
        directions = [StudyDirection.MINIMIZE] * len(self.objectives)
        study = optuna.create_study(storage=InMemoryStorage(), sampler=tpe, directions=directions)
        within = -1.0 if evidence.infeasible else None
        for place, record in enumerate(_chosen(evidence.observed)):
            values = [float(place), *(_cost(record, objective) for objective in self.objectives[1:])]
            study.add_trial(self._trial(record, OptunaState.COMPLETE, values, within))
        for record in evidence.infeasible[-MOST:]:
            study.add_trial(self._trial(record, OptunaState.PRUNED, violation=record.violation))
        for record in evidence.pending:
            study.add_trial(self._trial(record, OptunaState.RUNNING))
        return study

    def _trial(
        self,
        record: TrialRecord,
        state: OptunaState,
        values: Sequence[float] | None = None,
        violation: float | None = None,
    ) -> FrozenTrial:
        if record.number not in self._parameters:
            self._parameters[record.number] = self.space.parameters(record.params) or {}
        params = self._parameters[record.number]
        trial = _Shown(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=_SOME_TIME,
            datetime_complete=_SOME_TIME if state.is_finished() else None,
            params=params,
            distributions={d.path: d.distribution for d in self.space.dimensions if d.path in params},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        if violation is not None:
            trial.set_constraint("violation", violation)
        return trial


class _Shown(FrozenTrial):
    """A trial that is shown to a model. Nothing in it changes any more, so its copies share what it holds."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shown":
        return copy.copy(self)  # storage copies each trial deeply, which took more time than the model


def _chosen(observed: Sequence[TrialRecord]) -> Sequence[TrialRecord]:
    """The best, and of the rest every so many-th: the shape of the whole in at most `MOST` trials."""
    if len(observed) <= MOST:
        return observed
    rest = observed[BEST:]
    step = len(rest) / (MOST - BEST)
    return [*observed[:BEST], *(rest[int(i * step)] for i in range(MOST - BEST))]


def _cost(record: TrialRecord, objective: Objective) -> float:
    """What is made small, beside the error; comparable between trials of unequal lengths."""
    value = record.cost(objective) or 0.0
    return value / max(1, record.epochs) if objective is Objective.SECONDS else value
