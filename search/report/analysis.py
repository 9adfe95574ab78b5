"""What follows from a study's records, each thing computed once; the report's files only print it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Self

from search import formatting
from search.records import Finals, SeedRun, StudySummary, TrialRecord, Trials
from search.report import answer, published
from search.report.answer import Answer
from search.report.effects import Effect, effects
from search.report.finals import Mistake, OfClass, Standing, Verdict, by_class, mistakes, standings, verdict
from search.report.published import Comparison
from search.spec import Found
from search.statistics import Interval, balanced_interval, balanced_standard_error, standard_error
from search.training import Predictions


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
    predictions: Predictions | None = None  # of the exported network, on the test images

    @classmethod
    def of(
        cls,
        summary: StudySummary,
        records: Sequence[TrialRecord],
        importance: Mapping[str, float] | None = None,
        predictions: Predictions | None = None,
    ) -> Self:
        """Of a study with these records, refused proposals among them."""
        return cls(summary, Trials(records).started, Trials(records).refused, importance or {}, predictions)

    @property
    def validated(self) -> str:
        """What the error is called by which trials are compared."""
        return formatting.error_on("validation", self.summary.measure)

    @property
    def tested(self) -> str:
        """What the error is called by which finalists are compared."""
        return formatting.error_on("test", self.summary.measure)

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

    @property
    def exported(self) -> SeedRun | None:
        """The training whose network is exported; None without a champion."""
        runs = self.settled.champion.runs if self.settled and self.settled.champion else ()
        return next((run for run in runs if self.settled and run.number == self.settled.champion_run), None)

    @cached_property
    def classes(self) -> tuple[OfClass, ...]:
        """What the exported network takes the test images of each class for; empty where that is not known."""
        if self.predictions is None or self.exported is None:
            return ()
        return by_class(self.predictions, self.summary.data["classes"])

    @cached_property
    def mistakes(self) -> tuple[Mistake, ...]:
        """The wrong answers of the exported network that it gives the highest probability."""
        if self.predictions is None or self.exported is None:
            return ()
        return mistakes(self.predictions, self.summary.data["classes"])

    @property
    def balanced(self) -> tuple[float, Interval]:
        """Mean of the errors of the classes that have test images, and where it lies for other images."""
        known = [one for one in self.classes if one.images]
        mean = fmean(100 * one.wrong / one.images for one in known)
        return mean, balanced_interval([one.wrong for one in known], [one.images for one in known])

    @property
    def test_set_error(self) -> float:
        """Points by which another set of test images would move the champion's error: a standard error."""
        finals, mean = self.summary.finals, self.standings[0].mean or 0.0
        if self.summary.measure == "balanced_error" and self.classes:
            return balanced_standard_error([one.wrong for one in self.classes], [one.images for one in self.classes])
        return standard_error(mean, finals.effective or finals.tested_on) if finals else 0.0

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
