"""What follows from a study's records, each thing computed once; the report's files only print it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from search.records import Finals, StudySummary, TrialRecord, Trials
from search.report import answer, published
from search.report.answer import Answer
from search.report.effects import Effect, effects
from search.report.finals import Standing, Verdict, standings, verdict
from search.report.published import Comparison
from search.spec import Found


@dataclass(frozen=True)
class DeviceHours:
    """Seconds of training and testing times what a trial holds: GPUs, or cores where it holds no GPU."""

    unit: str  # `GPU-hours` or `core-hours`
    search: float
    finals: float

    @property
    def total(self) -> float:
        """Of search and finals."""
        return self.search + self.finals


@dataclass(frozen=True)
class Analysis:
    """A study and what its records say."""

    summary: StudySummary
    trials: Trials  # that were started, by number
    refused: Trials  # proposals beyond the limits: no trials, only counted
    importance: Mapping[str, float]  # dotted path -> share, largest first; empty where that is not asked for

    @classmethod
    def of(
        cls, summary: StudySummary, records: Sequence[TrialRecord], importance: Mapping[str, float] | None = None
    ) -> Self:
        """Of a study with these records, refused proposals among them."""
        return cls(summary, Trials(records).started, Trials(records).refused, importance or {})

    @property
    def images(self) -> int:
        """Number of images on which every validation error was counted."""
        return int(self.summary.data["validation"])

    @property
    def best(self) -> TrialRecord | None:
        """Of the search; None where no trial has a result."""
        return self.trials.best

    @property
    def chosen(self) -> TrialRecord | None:
        """The trial whose network the answer names: the champion's, else the best of the search."""
        if self.settled is None:
            return self.best
        return next((trial for trial in self.trials if trial.number == self.settled.champion_number), None)

    @cached_property
    def front(self) -> Trials:
        """The Pareto front of a study of several objectives; empty where there is one alone."""
        several = len(self.summary.objectives) > 1
        return self.trials.front(self.summary.objectives) if several else Trials()

    @cached_property
    def settled(self) -> Finals | None:
        """Finals that are complete and have a champion: their answer stands in place of the search's."""
        finals = self.summary.finals
        return finals if finals is not None and finals.complete and finals.champion is not None else None

    @property
    def compares(self) -> bool:
        """Whether the configurations were given, and there was no search."""
        return self.summary.finals is not None and self.summary.finals.compared

    @cached_property
    def standings(self) -> tuple[Standing, ...]:
        """The finalists, the champion first; empty without finals."""
        return () if self.summary.finals is None else standings(self.summary.finals)

    @cached_property
    def verdict(self) -> Verdict | None:
        """How the champion stands to the others; None while no finalist is tested."""
        finals, order = self.summary.finals, self.standings
        crowned = finals is not None and order and order[0].finalist is finals.champion and order[0].errors
        return verdict(order, finals) if finals is not None and crowned else None

    @cached_property
    def comparisons(self) -> dict[int, Comparison]:
        """Number of a configuration that is compared -> how it stands to another, here and in the papers."""
        return published.comparisons(self.summary.finals) if self.summary.finals and self.compares else {}

    @cached_property
    def published(self) -> dict[int, tuple[Found, ...]]:
        """Number of a finalist -> what is published of it."""
        return {s.finalist.number: published.of_finalist(self.summary, s.finalist) for s in self.standings}

    @cached_property
    def effects(self) -> list[Effect]:
        """What one choice changes, between trials of the search."""
        return effects(self.summary, self.trials, self.chosen)

    @cached_property
    def starts(self) -> dict[int, str]:
        """Number of a trial that the search began with -> where it comes from."""
        return {
            trial.number: start.source
            for start in reversed(self.summary.starts)
            for trial in self.trials
            if all(trial.params.get(path, value) == value for path, value in start.chosen.items())
        }

    @property
    def seconds(self) -> tuple[float, float]:
        """Of training, in the search and in the finals."""
        return sum(t.seconds or 0.0 for t in self.trials), sum(standing.seconds for standing in self.standings)

    @cached_property
    def cost(self) -> DeviceHours | None:
        """Of all trials, those at work too; None where it is not known what they held.

        Where several trials share a GPU each counts its share, whatever of it the others left idle.
        """
        of_trials = self.summary.holds or self.summary.finals_hold
        of_finals = self.summary.finals_hold or self.summary.holds
        if not of_trials:
            return None
        gpus = of_trials.get("gpus") or of_finals.get("gpus")
        unit, device = ("GPU-hours", "gpus") if gpus else ("core-hours", "cpus")
        searched, tested = (each / 3600 for each in self.seconds)
        return DeviceHours(unit, searched * of_trials.get(device, 0.0), tested * of_finals.get(device, 0.0))

    @cached_property
    def answer(self) -> Answer:
        """In words."""
        return answer.answer(self)
