"""What a study begins with: networks by name, values by path, the best of another study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution

from resnet import named
from resnet.names import OF_DATA
from search.errors import InputError, hint
from search.formatting import plural
from search.records import Trials, TrialState
from search.spec import Appraisal, Dimension, Former, Space, TrialSpec, Value


def starts(given: Sequence[str | Mapping[str, Any] | Former], space: Space) -> tuple[dict[str, Value], ...]:
    """Assignments of the space that these entries of `start:` stand for.

    A name stands for the published network, trained by the defaults where the space has them, else by what is nearest.
    What another study leaves is known only once its records are read: see `best_of_former`.

    Raises:
        InputError: naming the entry that the space does not hold, and why.
    """
    return tuple(_start(entry, space) for entry in given if not isinstance(entry, Former))


def _start(entry: str | Mapping[str, Any], space: Space) -> dict[str, Value]:
    name = f"start: {entry if isinstance(entry, str) else dict(entry)}"
    wanted = _of_network(entry) if isinstance(entry, str) else entry
    for path, value in wanted.items():
        if path not in TrialSpec.paths():
            raise InputError(f"{name}: {path} is not a field; {hint(path, TrialSpec.paths())}")
        fixed = space.fixed.get(path, TrialSpec.default(path, space.fixed))
        if path not in space.searched and value != fixed:
            raise InputError(
                f"{name} needs {path} = {value}, but the study has {fixed}; search {path}, or leave it out"
            )
    chosen = nearest(space, wanted)
    for dimension in space.dimensions:
        path = dimension.path
        if path in wanted and chosen.get(path, TrialSpec.default(path, chosen)) != wanted[path]:
            raise InputError(
                f"{name} needs {path} = {wanted[path]}, but space.{path} is {dimension.describe()}; widen it, or leave "
                "the start out"
            )
    return chosen


def _of_network(name: str) -> dict[str, Value]:
    try:
        flat = TrialSpec(net=named(name)).flat()
    except ValueError as error:
        raise InputError(f"start: {error}") from None
    of_data = {f"net.{field}" for field in OF_DATA}
    return {path: value for path, value in flat.items() if path.startswith("net.") and path not in of_data}


def nearest(space: Space, wanted: Mapping[str, Value]) -> dict[str, Value]:
    """The assignment with these values, or with what is nearest to them, or else to the defaults, in the space."""

    def ask(dimension: Dimension) -> Value:
        path = dimension.path
        value: Any = wanted[path] if path in wanted else TrialSpec.default(path, space.fixed)
        if dimension.holds(value):
            return value
        if isinstance(dimension.distribution, CategoricalDistribution):
            return dimension.extremes[0]
        numbers: Any = dimension.values or dimension.ends
        return min(numbers, key=lambda number: abs(number - value))

    return space.draw(ask)


@dataclass(frozen=True)
class FormerBest:
    """What an entry `{study: NAME, best: N}` of `start:` stands for."""

    study: str
    starts: tuple[dict[str, Value], ...]  # best first, all different
    left_out: int  # better ones among them that the new space or its limits do not hold

    def __str__(self) -> str:
        tried = f"{plural(len(self.starts), 'configuration')} of study {self.study!r}, its best, tried first"
        out = f"; {plural(self.left_out, 'better one')} left out, beyond the space or its limits"
        return tried + (out if self.left_out else "")


def best_of_former(
    asked: Former, trials: Trials, space: Space, appraise: Callable[[TrialSpec], Appraisal]
) -> FormerBest:
    """The best complete trials of a former study that the new one holds.

    By the names of what is searched: a value that was searched or fixed there has to be in the new space, one that had
    no effect there is the default or what is nearest to it. What the new study fixes is as it says.

    Args:
        asked: the entry.
        trials: of the study that it names.
        space: of the new study.
        appraise: what a trial of the new study would cost, and whether it is within its limits.

    Raises:
        InputError: there is none.
    """

    def holds(start: Mapping[str, Value], params: Mapping[str, Value]) -> bool:
        searched = (d for d in space.dimensions if d.path in start and d.path in params)
        return all(dimension.holds(params[dimension.path]) for dimension in searched)

    complete = [trial for trial in trials.ranked() if trial.state is TrialState.COMPLETE]
    found: dict[str, dict[str, Value]] = {}
    left_out = 0
    for trial in complete:
        if len(found) == asked.best:
            break
        start = nearest(space, trial.params)
        if not holds(start, trial.params) or appraise(space.specify(start)).reason:
            left_out += 1
        else:
            found.setdefault(space.key(start), start)
    if not complete:
        raise InputError(f"start: study {asked.study!r} has no complete trial; run it to its end, or leave start out")
    if not found:
        raise InputError(
            f"start: study {asked.study!r} has {plural(left_out, 'complete trial')}, and none within this space and "
            "its limits; widen them, or leave start out"
        )
    return FormerBest(asked.study, tuple(found.values()), left_out)
