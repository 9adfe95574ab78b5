"""What a study tries first: published networks by name, and configurations given by the user."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution

from resnet import named
from resnet.names import OF_DATA
from search.errors import InputError, hint
from search.space import Dimension, Space
from search.spec import TrialSpec, Value


def starts(given: Sequence[str | Mapping[str, Any]], space: Space) -> tuple[dict[str, Value], ...]:
    """Assignments of the space that these entries of `start:` stand for.

    A name stands for the published network, trained by the defaults where the space has them, else by what is nearest.

    Raises:
        InputError: naming the entry that the space does not hold, and why.
    """
    return tuple(_start(entry, space) for entry in given)


def _start(entry: str | Mapping[str, Any], space: Space) -> dict[str, Value]:
    name = f"start: {entry if isinstance(entry, str) else dict(entry)}"
    wanted = _of_network(entry) if isinstance(entry, str) else dict(entry)
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


def nearest(space: Space, wanted: Mapping[str, Value]) -> dict[str, Value]:
    """The assignment with these values, or with what is nearest to them, or else to the defaults, in the space."""

    def ask(dimension: Dimension) -> Value:
        path = dimension.path
        return _nearest(dimension, wanted[path] if path in wanted else TrialSpec.default(path, space.fixed))

    return space.draw(ask)


def _of_network(name: str) -> dict[str, Value]:
    try:
        spec = TrialSpec(net=named(name))
    except ValueError as error:
        raise InputError(f"start: {error}") from None
    return {
        path: value
        for path, value in spec.flat().items()
        if path.startswith("net.") and path.removeprefix("net.") not in OF_DATA
    }


def _nearest(dimension: Dimension, value: Any) -> Value:
    if dimension.holds(value):
        return value
    match dimension.distribution:
        case CategoricalDistribution() as categorical:
            return categorical.choices[0]  # pyright: ignore[reportReturnType]
        case _:
            low, high = min(dimension.extremes), max(dimension.extremes)  # pyright: ignore[reportArgumentType]
            return min(dimension.values or (low, high), key=lambda v: abs(v - value))  # pyright: ignore
