"""Why a search ends before its trials are done: a budget is spent, a target is reached, nothing better comes.

What is decided is kept in the storage: a process that continues the study decides the same, until it is asked for more.
"""
# pyright: reportMissingTypeStubs=false

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import optuna

from search.formatting import duration, plural
from search.records.trial import TrialRecord, TrialState
from search.spec import Objective, SearchSpec


@dataclass(frozen=True)
class Spent:
    """What a stage of a study has taken, over all starts."""

    seconds: float = 0.0  # wall time, without starting Ray
    gpu_hours: float = 0.0  # of the GPUs, or the shares of one, that trainings held
    cost: Mapping[str, float] = field(default_factory=dict[str, float])  # currency -> of the nodes that were there

    def __add__(self, other: "Spent") -> "Spent":
        cost = {currency: self.costs(currency) + other.costs(currency) for currency in (*self.cost, *other.cost)}
        return Spent(self.seconds + other.seconds, self.gpu_hours + other.gpu_hours, cost)

    def costs(self, currency: str) -> float:
        """In this currency."""
        return self.cost.get(currency, 0.0)

    def budgets(self, search: SearchSpec, kept: "Spent") -> "Iterator[Budget]":
        """The budgets of a search that has taken this; `kept` is what its finals need of them."""
        if search.time_budget is not None:
            yield Budget("time_budget", "s", search.time_budget, self.seconds)
        if search.gpu_hours is not None:
            yield Budget("gpu_hours", "GPU-hours", search.gpu_hours, self.gpu_hours, kept.gpu_hours)
        if search.money is not None:
            amount, currency = search.money
            yield Budget("max_cost", currency, amount, self.costs(currency), kept.costs(currency))


@dataclass(frozen=True)
class Budget:
    """One of the budgets of a search, with what is spent of it and what is kept for the finals, in its unit."""

    key: str  # in `search`
    unit: str  # in words
    limit: float
    spent: float
    kept: float = 0.0

    @property
    def is_spent(self) -> bool:
        """Whether the search has nothing left of it."""
        return self.spent + self.kept >= self.limit

    @property
    def reason(self) -> str:
        """Of a search that ended for it."""
        if self.key == "time_budget":
            return f"time budget of {self.limit:g} s spent"
        kept = f", and {_number(self.kept)} kept for the finals" if self.kept else ""
        return f"{_number(self.spent)} of {_number(self.limit)} {self.unit} spent{kept}"

    def __str__(self) -> str:
        """`3.1 GPU-hours spent, 6.9 left (1.2 for the finals)`."""
        left = max(0.0, self.limit - self.spent)
        if self.key == "time_budget":
            return f"{duration(self.spent)} spent, {duration(left)} left"
        kept = f" ({_number(self.kept)} for the finals)" if self.kept else ""
        return f"{_number(self.spent)} {self.unit} spent, {_number(left)} left{kept}"


@dataclass(frozen=True)
class End:
    """Why a search begins no further epoch."""

    KEY: ClassVar[str] = "ended"  # in the storage

    by: str  # the key in `search` that ends it
    asked: Any  # its value, as JSON has it
    reason: str  # in words

    @classmethod
    def of_spent(cls, search: SearchSpec, spent: Spent, kept: Spent) -> Self | None:
        """By a budget; None where something is left of each. Arguments as of `Spent.budgets`."""
        gone = next((budget for budget in spent.budgets(search, kept) if budget.is_spent), None)
        return gone and cls(gone.key, _asked(search, gone.key), gone.reason)

    @classmethod
    def of_found(cls, search: SearchSpec, trials: Iterable[TrialRecord]) -> Self | None:
        """By a trial that reaches the target, or too many trainings without a better one; None where neither is so."""
        complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
        if reached := next((trial for trial in complete if _reaches(trial, search.target)), None):
            values = ", ".join(f"{name} {reached.objective(name):.4g}" for name in search.target or ())
            reason = f"trial {reached.number} reached the target ({values})"
            return cls("target", _asked(search, "target"), reason)
        if search.patience is not None and without_better(complete, search.objectives) >= search.patience:
            trainings = plural(search.patience, "complete training")
            return cls("patience", search.patience, f"{trainings} in a row brought nothing better")
        return None

    def holds(self, search: SearchSpec) -> bool:
        """Whether the search still asks for what has ended it."""
        return _asked(search, self.by) == self.asked


@dataclass(frozen=True)
class Course:
    """How far a search has come, beside its trials."""

    spent: Spent = field(default_factory=Spent)
    exhausted: str | None = None  # why nothing is left to propose
    ended: End | None = None  # as it was decided

    @classmethod
    def of(cls, study: optuna.Study) -> Self:
        """As the storage has it."""
        notes: Mapping[str, Any] = study.user_attrs
        spent = Spent(float(notes.get("elapsed", 0.0)), float(notes.get("gpu_hours", 0.0)), notes.get("cost", {}))
        return cls(spent, notes.get("exhausted"), End(**notes[End.KEY]) if End.KEY in notes else None)

    def end(self, search: SearchSpec, trials: Iterable[TrialRecord]) -> End | None:
        """Why the search begins no further epoch; None where it may."""
        if self.ended is not None and self.ended.holds(search):
            return self.ended
        return End.of_spent(search, self.spent, Spent()) or End.of_found(search, trials)


def without_better(trials: Iterable[TrialRecord], objectives: Iterable[Objective]) -> int:
    """How many complete trials have ended since one was better, in the order in which they ended.

    Better is a lower error, however little; with several objectives what no earlier trial equals or beats in all.
    """
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    asked, front, since = tuple(objectives), list[tuple[float, ...]](), 0
    for trial in sorted(complete, key=lambda one: (one.ended or 0, one.number)):
        point = tuple(cost for objective in asked if (cost := trial.cost(objective)) is not None)
        if len(point) < len(asked) or any(_beats(other, point) for other in front):
            since += 1
        else:
            front = [*(other for other in front if not _beats(point, other)), point]
            since = 0
    return since


def _asked(search: SearchSpec, key: str) -> Any:
    return search.model_dump(mode="json")[key]


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _reaches(trial: TrialRecord, target: Mapping[Objective, float] | None) -> bool:
    def met(objective: Objective, value: float) -> bool:
        found = trial.objective(objective)
        return found is not None and (found >= value if objective is Objective.IMAGES_PER_S else found <= value)

    return bool(target) and all(met(objective, value) for objective, value in (target or {}).items())


def _number(value: float) -> str:
    """`0.042`, `3.1`, `12.5`, `1,240`."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
