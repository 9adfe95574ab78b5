"""Configurations of a space as rows of numbers, one for each dimension, for a model; and rows near others."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from search.optimize.gaussian import Floats
from search.spec import Dimension, Space, TrialSpec, Value

IDLE = 0.5  # what a model is shown of a number without effect
SHARES = (0.3, 0.6, 1.0)  # of the dimensions in which a row may differ from its neighbour


class Axis:
    """One dimension: a number by its place between the lowest and the highest, 0..1; anything else by its choice.

    Args:
        dimension: of the space.
    """

    def __init__(self, dimension: Dimension) -> None:
        values = dimension.values if dimension.values is not None else dimension.extremes
        ordered = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        self.choices: tuple[Value, ...] = () if ordered else values
        self._low, self._high = (dimension.ends) if ordered else (0.0, 1.0)
        distribution: Any = dimension.distribution
        # Choices such as depths are told apart by their ratio: 20 is to 8 what 50 is to 20.
        choice = isinstance(distribution, CategoricalDistribution)
        self._log = ordered and (self._low > 0 if choice else bool(distribution.log))
        self._values = values if ordered and dimension.values is not None else ()
        self._places = np.array([self.place(value) for value in self._values])

    def place(self, value: Any) -> float:
        """Of a value, or the number of a choice."""
        if self.choices:
            return float(self.choices.index(value))
        low, high = self._on_scale(self._low), self._on_scale(self._high)
        return (self._on_scale(float(value)) - low) / (high - low) if high > low else IDLE

    def value(self, place: float) -> Value:
        """What is there."""
        if self.choices:
            return self.choices[int(place)]
        if self._values:
            return self._values[int(np.abs(self._places - place).argmin())]
        low, high = self._on_scale(self._low), self._on_scale(self._high)
        number = low + place * (high - low)
        return min(max(math.exp(number) if self._log else number, self._low), self._high)

    def fresh(self, rng: np.random.Generator, n: int) -> Floats:
        """Places (n,) at random."""
        if self.choices:
            return rng.integers(len(self.choices), size=n).astype(float)
        return self._places[rng.integers(len(self._places), size=n)] if self._values else rng.random(n)

    def moved(self, places: Floats, spread: Floats, rng: np.random.Generator) -> Floats:
        """Places (n,), each moved by about `spread` and mirrored at the ends; of choices half drawn again."""
        if self.choices:
            return np.where(rng.random(len(places)) < 0.5, self.fresh(rng, len(places)), places)
        to = np.abs(places + spread * rng.normal(size=len(places)))
        to = np.clip(np.where(to > 1, 2 - to, to), 0, 1)
        return self._places[np.abs(self._places - to[:, None]).argmin(1)] if self._values else to

    def columns(self, places: Floats) -> Floats:
        """What a model is shown (n, columns): a choice as a one among zeros; nothing (NaN) as what says nothing."""
        if self.choices:
            return (places[:, None] == np.arange(len(self.choices))) * 1.0
        return np.where(np.isnan(places), IDLE, places)[:, None]

    def _on_scale(self, number: float) -> float:
        return math.log(number) if self._log else number


class Axes:
    """The axes of a space. A row has a place for each dimension, NaN for one that has no effect.

    Args:
        space: whose configurations are shown to a model.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._axes = [Axis(dimension) for dimension in space.dimensions]
        self._at = {dimension.path: place for place, dimension in enumerate(space.dimensions)}
        widths = [len(axis.choices) or 1 for axis in self._axes]
        self.owner: NDArray[np.int64] = np.repeat(np.arange(len(widths)), widths)  # dimension of each column
        self._conditions = [list(self._allowed(dimension)) for dimension in space.dimensions]

    def row(self, chosen: Mapping[str, Value]) -> Floats:
        """Of an assignment of the space."""
        return np.array([axis.place(chosen[path]) if path in chosen else math.nan for path, axis in self._by_path()])

    def chosen(self, row: Floats) -> dict[str, Value]:
        """The assignment of a row; what the model thought idle and is not stands in the middle."""

        def ask(dimension: Dimension) -> Value:
            at = self._at[dimension.path]
            return self._axes[at].value(0 if math.isnan(row[at]) else row[at])

        return self._space.draw(ask)

    def columns(self, rows: Floats) -> Floats:
        """What a model is shown of rows (n, dimensions)."""
        return np.hstack([axis.columns(rows[:, at]) for at, axis in enumerate(self._axes)])

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """Rows at random."""
        return self._idle(np.stack([axis.fresh(rng, n) for axis in self._axes], 1))

    def near(self, rows: Floats, spread: Floats, rng: np.random.Generator) -> Floats:
        """A neighbour of each row: some numbers moved by about `spread` (n,) of a range, some choices drawn again."""
        n, dimensions = rows.shape
        differs = rng.random((n, dimensions)) < rng.choice(SHARES, size=(n, 1))
        differs[np.arange(n), rng.integers(dimensions, size=n)] = True
        found = np.empty_like(rows)
        for at, axis in enumerate(self._axes):
            before = np.where(np.isnan(rows[:, at]), axis.fresh(rng, n), rows[:, at])
            found[:, at] = np.where(differs[:, at], axis.moved(before, spread, rng), before)
        return self._idle(found)

    def _by_path(self) -> Sequence[tuple[str, Axis]]:
        return list(zip(self._at, self._axes, strict=True))

    def _allowed(self, dimension: Dimension) -> Sequence[tuple[int, Floats]]:
        """Its conditions: another dimension, and the places of that under which this one has an effect."""
        found: list[tuple[int, Floats]] = []
        for path, values in dimension.when.items():
            if path in self._at:
                other = self._space.dimensions[self._at[path]]
                places = [self._axes[self._at[path]].place(value) for value in values if other.holds(value)]
                found.append((self._at[path], np.array(places)))
            elif self._space.fixed.get(path, TrialSpec.default(path, self._space.fixed)) not in values:
                found.append((self._at[dimension.path], np.array([])))
        return found

    def _idle(self, rows: Floats) -> Floats:
        """Rows with NaN where a condition is not met; conditions are decided before what depends on them."""
        for at, conditions in enumerate(self._conditions):
            for other, places in conditions:
                rows[~np.isclose(rows[:, [other]], places).any(1), at] = np.nan
        return rows
