"""The page of `quality`: how many times less budget each search needs than the baseline, with intervals."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from benchmarks.report import RESULTS, publish, table
from search.optimize.gaussian import Floats

RESAMPLES = 1_000
AT = (2, 5, 10, 20, 50)  # whole trainings of the baseline


@dataclass(frozen=True)
class Compared:
    """Searches on the tasks of one kind."""

    kind: str
    budgets: Floats  # whole trainings
    regrets: Mapping[tuple[str, str], Floats]  # (task, search) -> of each seed (rows) after each budget
    baseline: str

    @cached_property
    def tasks(self) -> list[str]:
        """By name."""
        return list(dict.fromkeys(task for task, _ in self.regrets))

    @cached_property
    def searches(self) -> list[str]:
        """But for the baseline."""
        return [s for s in dict.fromkeys(search for _, search in self.regrets) if s != self.baseline]

    @property
    def at(self) -> list[int]:
        """Budgets of the baseline that factors are given for."""
        return [at for at in AT if at <= self.budgets[-1]]

    def factors(self, search: str) -> Floats:
        """Of each task (rows) at each budget of the baseline."""
        means = {key: found.mean(0, keepdims=True) for key, found in self.regrets.items()}
        return np.stack([self._factors(means[t, search], means[t, self.baseline])[0] for t in self.tasks])

    def resampled(self, search: str) -> Floats:
        """The same with seeds drawn again (RESAMPLES, tasks, budgets of the baseline)."""
        draw = np.random.default_rng(0)

        def means(task: str, name: str) -> Floats:
            found = self.regrets[task, name]
            n = len(found)
            return draw.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n @ found

        return np.stack([self._factors(means(t, search), means(t, self.baseline)) for t in self.tasks], 1)

    def _factors(self, ours: Floats, theirs: Floats) -> Floats:
        """From mean regrets (n, budgets): the budget over that after which ours is as low as theirs.

        Where it never is: over the largest budget, so that the factor is at most this.
        """
        found = np.empty((len(ours), len(self.at)))
        for column, at in enumerate(self.at):
            reached = ours <= theirs[:, [np.searchsorted(self.budgets, at, side="right") - 1]]
            found[:, column] = at / self.budgets[np.where(reached.any(1), reached.argmax(1), -1)]
        return found

    def medians(self, search: str) -> list[str]:
        """Median of the tasks at each budget; the interval is over tasks and seeds."""
        drawn = self.resampled(search)
        tasks = np.random.default_rng(1).integers(len(self.tasks), size=drawn.shape[:2])
        low, high = np.quantile(np.median(np.take_along_axis(drawn, tasks[..., None], 1), 1), [0.025, 0.975], 0)
        return [f"{m:.1f} [{a:.1f}, {b:.1f}]" for m, a, b in zip(self._median(search), low, high, strict=True)]

    def worst(self, search: str) -> list[str]:
        """The worst task at each budget; the interval is over seeds."""
        factors, drawn, cells = self.factors(search), self.resampled(search), list[str]()
        for column, place in enumerate(factors.argmin(0)):
            low, high = np.quantile(drawn[:, place, column], [0.025, 0.975])
            factor = self._shown(factors[place, column], self.at[column])
            cells.append(f"{factor} [{low:.1f}, {high:.1f}] {self.tasks[place]}")
        return cells

    def each(self, search: str, at: int) -> list[str]:
        """Of each task at one budget."""
        return [self._shown(factor, at) for factor in self.factors(search)[:, self.at.index(at)]]

    def relative(self, search: str) -> Floats:
        """Mean regret by budget, that of the baseline after one training being one: the median of the tasks."""
        one = np.searchsorted(self.budgets, 1.0)
        means = {key: found.mean(0) for key, found in self.regrets.items()}
        return np.median([means[task, search] / means[task, self.baseline][one] for task in self.tasks], 0)

    def _median(self, search: str) -> Floats:
        return np.median(self.factors(search), 0)

    def _shown(self, factor: float, at: float) -> str:
        return f"{'<' if factor <= at / self.budgets[-1] else ''}{factor:.1f}"


def write(kinds: Sequence[Compared], seeds: int, workers: int, out: bool) -> None:
    """Prints the page; with `out` writes it, and its plot, to results/."""
    parts = [
        f"n = {seeds} seeds, {workers} asynchronous workers in simulated time.",
        f"How many times less budget a search needs for the mean regret that {kinds[0].baseline} has after B whole "
        "trainings (<: not within the budget that was given). Brackets: 95 % bootstrap intervals, of the median over "
        "tasks and seeds, of the worst task over seeds.",
    ]
    for of in kinds:
        head = ["search", *(f"B = {at}" for at in of.at)]
        parts += [
            f"## {of.kind}: {len(of.tasks)} tasks, at most {of.budgets[-1]:g} trainings",
            "The median of the tasks:",
            table(head, [[search, *of.medians(search)] for search in of.searches]),
            "The worst task:",
            table(head, [[search, *of.worst(search)] for search in of.searches]),
            "Each task at B = 10:",
            table(["search", *of.tasks], [[search, *of.each(search, 10)] for search in of.searches]),
        ]
    called = f"search-quality-{workers}-workers"
    if out:
        name = f"{datetime.date.today()}-{called}.png"
        _plot(kinds).savefig(RESULTS / name, dpi=110)
        parts.append(f"![regret against budget]({name})")
    publish(called, f"How soon a search finds good configurations, with {workers} workers", parts, out)


def _plot(kinds: Sequence[Compared]) -> Figure:
    figure, panels = pyplot.subplots(1, len(kinds), figsize=(7 * len(kinds), 4.5), squeeze=False, layout="constrained")
    for panel, of in zip(panels.flat, kinds, strict=True):
        for search in (of.baseline, *of.searches):
            panel.plot(of.budgets, of.relative(search), label=search)
        panel.set(title=of.kind, xscale="log", yscale="log", xlabel="whole trainings", ylabel="mean regret, relative")
    panels.flat[0].legend(fontsize="small")
    return figure
