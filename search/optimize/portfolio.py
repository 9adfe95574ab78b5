"""Configurations that were good on other data: the fewest among which one is good wherever they were tried.

`known.json` has the last validation errors of the same configurations on several small tasks, trained by this project
(`benchmarks/search/curves`). A portfolio takes them one after another, each the one that lowers the mean over the tasks
of the best error so far the most (arXiv:1908.08593, section 3). What the space does not hold becomes what is nearest.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from search.spec import Dimension, Space, TrialSpec, Value

KNOWN = Path(__file__).parent / "known.json"
CHANGED = 0.3  # added to the loss of a configuration for each choice in which the space changes it
_BY_PLACE = ("net.depth",)  # the deepest that was tried stands for the deepest of the space

Losses = NDArray[
    np.float64
]  # (configurations, tasks): 0 the best of a task, 1 the median of its configurations, or worse


@dataclass(frozen=True)
class Known:
    """Configurations, by dotted path, and what is known of them."""

    configurations: Sequence[Mapping[str, Any]]
    errors: Mapping[str, Sequence[float | None]]  # task -> last error of each configuration, percent; None: diverged
    batch_size: int  # that all were trained with

    @classmethod
    @cache
    def shipped(cls) -> Self:
        """What the project knows."""
        return cls(**json.loads(KNOWN.read_text()))

    @property
    def losses(self) -> Losses:
        """How bad each is on each task."""
        return np.stack([_losses(errors) for errors in self.errors.values()], 1)

    def wanted(self, place: int, space: Space) -> dict[str, Any]:
        """Configuration `place`, for a space: depth by its place between both ends, the rate for the batch."""
        values = dict(self.configurations[place])
        for path in _BY_PLACE:
            dimension = next((d for d in space.dimensions if d.path == path), None)
            if dimension is not None and path in values:
                values[path] = _moved(values[path], [one[path] for one in self.configurations], dimension)
        # The rate grows with the batch, as in arXiv:1706.02677, section 2.1.
        batch = batch_size(space, self.batch_size)
        return values | {"train.batch_size": batch, "train.lr": values["train.lr"] * batch / self.batch_size}


def portfolio(
    known: Known, space: Space, count: int, able: Callable[[Mapping[str, Value]], bool]
) -> list[dict[str, Value]]:
    """At most `count` different assignments of the space, the most promising first.

    Args:
        known: what they are chosen from.
        space: that is to hold them.
        count: see above.
        able: whether an assignment may be trained.
    """
    found: dict[str, tuple[dict[str, Value], Losses]] = {}
    for place, losses in enumerate(known.losses):
        wanted = known.wanted(place, space)
        chosen = nearest(space, wanted)
        losses = losses + CHANGED * sum(_differs(chosen, path, value) for path, value in wanted.items())
        key = space.key(chosen)
        if key not in found or losses.mean() < found[key][1].mean():
            found[key] = chosen, losses
    able_ones = [(chosen, losses) for chosen, losses in found.values() if able(chosen)]
    if not able_ones:
        return []
    return [able_ones[place][0] for place in greedy(np.array([losses for _, losses in able_ones]), count)]


def greedy(losses: Losses, count: int) -> list[int]:
    """Rows in the order in which each lowers the mean of the columns' lowest the most."""
    lowest, order = np.full(losses.shape[1], np.inf), list[int]()
    while len(order) < min(count, len(losses)):
        after = np.minimum(lowest, losses).mean(1)
        ranked = np.lexsort((losses.mean(1), after))
        place = next(int(row) for row in ranked if int(row) not in order)
        order.append(place)
        lowest = np.minimum(lowest, losses[place])
    return order


def nearest(space: Space, wanted: Mapping[str, Value]) -> dict[str, Value]:
    """The assignment with these values, or with what is nearest to them, or else to the defaults, in the space."""

    def ask(dimension: Dimension) -> Value:
        path = dimension.path
        value: Any = wanted[path] if path in wanted else TrialSpec.default(path, space.fixed)
        if dimension.holds(value):
            return value
        numbers: Any = dimension.values or dimension.ends
        if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in (*numbers, value)):
            return dimension.extremes[0]
        return min(numbers, key=lambda number: abs(number - value))

    return space.draw(ask)


def batch_size(space: Space, wanted: int) -> int:
    """The images a step of the space that are nearest to these."""
    path = "train.batch_size"
    return int(nearest(space, {path: wanted}).get(path) or TrialSpec.default(path, space.fixed))


def _losses(errors: Sequence[float | None]) -> Losses:
    given = np.array([np.inf if error is None else error for error in errors])
    lowest, median = given.min(), float(np.median(given))
    return np.clip((given - lowest) / max(median - lowest, 1e-9), 0, 1)


def _moved(value: float, tried: Sequence[float], dimension: Dimension) -> Value:
    """The value of the space at the same place between its ends, on a log scale."""
    low, high = min(tried), max(tried)
    first, last = dimension.ends
    place = math.log(value / low) / math.log(high / low)
    at = first * (last / first) ** place
    numbers: Any = dimension.values or dimension.ends
    return min(numbers, key=lambda number: abs(math.log(number / at)))


def _differs(chosen: Mapping[str, Value], path: str, value: Any) -> bool:
    """Whether it is a choice, and another one was taken."""
    taken = chosen[path] if path in chosen else TrialSpec.default(path, chosen)
    return isinstance(value, str) and taken != value
