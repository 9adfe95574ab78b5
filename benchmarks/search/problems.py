"""What searches are compared on: learning curves that cost nothing to train, of LCBench and of our own table.

A problem knows the others of its kind, so that what a search begins with can be chosen from them alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import IntDistribution

from benchmarks.search import lcbench
from benchmarks.search.curves import Table
from benchmarks.search.curves.tasks import SPACE, TASKS
from search.optimize.axes import Axes
from search.optimize.gaussian import Floats
from search.optimize.portfolio import Known, Losses, greedy
from search.records import Start
from search.spec import Dimension, Space, TrialSpec, Value
from search.spec.space import Distribution, make

STARTS = 8
RECIPE = {  # the papers', as far as the table's space holds it
    "net.depth": 20,
    "net.version": "v2",
    "net.shortcut": "identity",
    "train.lr": 0.1,
    "train.weight_decay": 1e-4,
    "train.schedule": "cosine",
}
CANDIDATES = 500  # random configurations among which starts are chosen
KNOWN = 20_000  # and those among which the lowest error is sought


@dataclass(frozen=True)
class Configuration:
    """Takes the place of a TrialSpec: what is trained, as flat values."""

    values: Mapping[str, Value]

    def flat(self) -> Mapping[str, Value]:
        return self.values

    @property
    def digest(self) -> str:
        return _key(self.values)


class Values(Space):
    """A space of plain values instead of networks."""

    def specify(self, chosen: Mapping[str, Value]) -> TrialSpec:
        return cast(TrialSpec, Configuration(chosen))


@dataclass(frozen=True)
class Problem:
    """One task, and how its configurations fare."""

    name: str
    kind: str
    epochs: int  # of a whole training
    space: Space
    train: Callable[[Mapping[str, Value]], Iterator[float]]  # errors in percent by epoch; fewer where it diverges
    lowest: Callable[[], float]  # error known, but for what a search finds
    starts: Callable[[], Sequence[Start]]  # what was good on other data, chosen as a study's are
    rows: Sequence[Mapping[str, Value]] = ()  # all configurations, where they come from a table

    def axes(self) -> Axes:
        """How a model sees the space."""
        return RowAxes(self.space, self.rows) if self.rows else Axes(self.space)

    @property
    def distributions(self) -> Mapping[str, Distribution]:
        """By name."""
        return {dimension.path: dimension.distribution for dimension in self.space.dimensions}


def _lcbench(task: int) -> Problem:
    """A task of LCBench's surrogate, by its OpenML number: fully connected networks on tables."""
    space = Values(tuple(Dimension(name, d, {}) for name, d in lcbench.SPACE.items()), {})

    def lowest() -> float:
        return float(lcbench.final(task, lcbench.random_configurations(KNOWN, seed=1)).min())

    def starts() -> Sequence[Start]:
        rows = lcbench.random_configurations(CANDIDATES, seed=2)
        losses = np.stack([loss for other, loss in _of_lcbench().items() if other != task], 1)
        chosen = [dict(zip(lcbench.SPACE, rows[place].tolist(), strict=True)) for place in greedy(losses, STARTS)]
        whole = [name for name, d in lcbench.SPACE.items() if isinstance(d, IntDistribution)]
        return [Start(one | {name: round(one[name]) for name in whole}, "others") for one in chosen]

    return Problem(str(task), "LCBench", lcbench.EPOCHS, space, lambda v: lcbench.train(task, v), lowest, starts)


@cache
def _of_lcbench() -> Mapping[int, Losses]:
    rows = lcbench.random_configurations(CANDIDATES, seed=2)
    errors = {str(task): lcbench.final(task, rows).tolist() for task in lcbench.TASKS}
    return dict(zip(lcbench.TASKS, Known([], errors, 1).losses.T, strict=True))


@dataclass(frozen=True)
class Rows(Values):
    """A space in which only the rows of a table can be chosen: what lies between them becomes the nearest."""

    rows: Sequence[Mapping[str, Value]]

    def draw(self, ask: Callable[[Dimension], Value]) -> dict[str, Value]:
        return dict(self.rows[self.nearest(super().draw(ask))])

    def nearest(self, chosen: Mapping[str, Value]) -> int:
        """The place of the nearest row."""
        known = self._places.get(_key(chosen))
        return int(self._axes.places(self._axes.row(chosen)[None])[0]) if known is None else known

    def combinations(self, *, values: bool) -> Iterator[dict[str, Value]]:
        return map(dict, self.rows)

    @cached_property
    def _axes(self) -> "RowAxes":
        return RowAxes(self, self.rows)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {_key(row): place for place, row in enumerate(self.rows)}


class RowAxes(Axes):
    """Axes on which there are only the rows of a table."""

    def __init__(self, space: Space, rows: Sequence[Mapping[str, Value]]) -> None:
        super().__init__(space)
        self._rows = np.stack([self.row(one) for one in rows])
        self._shown = self.columns(self._rows)

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        return self._rows[rng.permutation(len(self._rows))[:n]]

    def near(self, rows: Floats, spread: Floats, rng: np.random.Generator) -> Floats:
        return self._rows[self.places(super().near(rows, spread, rng))]

    def places(self, rows: Floats) -> NDArray[np.int64]:
        """Of the rows of the table that are nearest to these."""
        return np.abs(self.columns(rows)[:, None] - self._shown).sum(2).argmin(1)


def _residual(name: str) -> Problem:
    """A task of our own table: residual networks on small sets of images."""
    table = _table()
    task, rows = table.tasks[name], table.configurations
    whole = make(dict(SPACE), {"net.in_channels": 1, "net.num_classes": 10, "net.image_size": 8})
    space = Rows(whole.dimensions, {}, rows)

    def lowest() -> float:
        return min(min(curve) for curve in task.errors if curve)

    def starts() -> Sequence[Start]:
        # Two tasks of the same images would know of each other more than a study knows of its own.
        others = {other: t.finals for other, t in table.tasks.items() if TASKS[other].source != TASKS[name].source}
        losses = Known(rows, others, 1).losses
        recipe = space.nearest(RECIPE)
        places = [recipe, *(place for place in greedy(losses, STARTS) if place != recipe)][:STARTS]
        return [Start(dict(rows[place]), "others") for place in places]

    def train(values: Mapping[str, Value]) -> Iterator[float]:
        return iter(task.errors[space.nearest(values)])

    return Problem(name, "residual networks", task.epochs, space, train, lowest, starts, rows)


@cache
def _table() -> Table:
    return Table.read()


def _key(values: Mapping[str, Any]) -> str:
    return repr(sorted(values.items()))


@cache
def problem(name: str) -> Problem:
    """By its name."""
    return _lcbench(int(name)) if name.isdigit() else _residual(name)


def names() -> list[str]:
    """Of all problems."""
    return [*map(str, lcbench.TASKS), *_table().tasks]
