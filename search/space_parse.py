"""From the `space:` section of a study to a `Space`; everything that can be wrong with it is said here."""

import math
from collections.abc import Iterator, Mapping, Set
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from resnet.names import OF_DATA
from resnet.spec import needs
from search.errors import InputError, hint
from search.space import Dimension, Space
from search.spec import TrialSpec, Value

FROM_DATA = {f"net.{name}" for name in OF_DATA}


def make(section: Mapping[str, Any], fixed: Mapping[str, Value]) -> Space:
    """The space of a study's `space:` section over its fixed values.

    Raises:
        InputError: unknown path, empty choices, low above high, log range through 0, circular or unknown condition.
    """
    dimensions = [_dimension(path, entry) for path, entry in section.items()]
    return Space(tuple(_ordered(dimensions, fixed)), dict(fixed))


def _dimension(path: str, entry: Any) -> Dimension:
    name = f"space.{path}"
    if path not in TrialSpec.paths():
        raise InputError(f"{name} is not a field that can be searched; {hint(path, TrialSpec.paths())}")
    if path in FROM_DATA:
        raise InputError(f"{name} cannot be searched: it follows from the data set; remove it")
    if path == "train.epochs":
        raise InputError(
            f"{name} cannot be searched: epochs are the budget of every trial; set train.epochs or --epochs"
        )
    if not isinstance(entry, (list, Mapping)):
        raise InputError(
            f"{name} = {entry!r} is neither a list of choices nor a range; write [{entry}] or low: and high:"
        )
    body = {"choices": entry} if isinstance(entry, list) else dict(entry)
    given_when = body.pop("when", {})
    if not isinstance(given_when, Mapping):
        raise InputError(f"{name}: when = {given_when!r} is no condition; write when: {{net.shortcut: [dropout]}}")
    when = {str(k): tuple(v) if isinstance(v, list) else (v,) for k, v in given_when.items()}
    for other in when:
        if other not in TrialSpec.paths():
            raise InputError(f"{name}: when: {other} is not a field; {hint(other, TrialSpec.paths())}")
    for other, effective in _effects(path).items():
        given = when.get(other, effective)
        when[other] = tuple(v for v in given if v in effective) or given
    return Dimension(path, _distribution(name, path, body), when)


def _effects(path: str) -> dict[str, tuple[Value, ...]]:
    """The conditions without which a field of the network has no effect."""
    need = needs(path.removeprefix("net.")) if path.startswith("net.") else None
    if need is None:
        return {}
    other, kinds = need
    return {f"net.{other}": tuple(sorted(kind.value for kind in kinds))}  # a set has another order in each process


def _distribution(name: str, path: str, body: dict[str, Any]) -> BaseDistribution:
    if "choices" in body:
        extra = body.keys() - {"choices"}
        if extra:
            raise InputError(f"{name}: {sorted(extra, key=str)[0]} does not go with choices; remove one of them")
        return CategoricalDistribution(_choices(name, path, body["choices"]))
    unknown = body.keys() - {"low", "high", "log", "step"}
    if unknown:
        raise InputError(f"{name}.{sorted(unknown, key=str)[0]} is not known; a range has low, high, log, step, when")
    low, high = (_number(name, end, body) for end in ("low", "high"))
    log, step = bool(body.get("log", False)), body.get("step")
    if low > high:
        raise InputError(f"{name}: low = {low:g} is above high = {high:g}; exchange them")
    if log and low <= 0:
        raise InputError(f"{name}: low = {low:g} cannot begin a log range; use a low above 0 or log: false")
    if step is not None and (log or isinstance(step, bool) or not isinstance(step, int | float) or step <= 0):
        raise InputError(f"{name}: step = {step!r} must be a number above 0 of a range without log; remove it")
    field = TrialSpec.types()[path]
    if field is int:
        if low != int(low) or high != int(high) or (step is not None and step != int(step)):
            raise InputError(
                f"{name}: {low:g} ... {high:g} must have whole ends and step, for {path} is a whole number"
            )
        return IntDistribution(int(low), int(high), log=log, step=1 if step is None else int(step))
    if field is not float:
        raise InputError(f"{name} is no number and has no range; give a list of choices")
    return FloatDistribution(float(low), float(high), log=log, step=None if step is None else float(step))


def _choices(name: str, path: str, given: Any) -> list[Value]:
    if not isinstance(given, list) or not given:
        raise InputError(f"{name} = {given!r} offers nothing to choose from; give a list of at least one value")
    for value in given:
        if not isinstance(value, str | int | float | bool):
            raise InputError(f"{name}: {value!r} is no single value; choices are words or numbers")
    if TrialSpec.types()[path] in (int, float):
        given = [_numeral(value) for value in given]
    if len(set(given)) != len(given):
        raise InputError(f"{name} = {given!r} names a choice twice; remove the repetition")
    return given


def _numeral(value: Any) -> Any:
    """The number that a word spells, for YAML reads 1e-4 as a word; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value  # refused with the field that it is for
    return int(number) if number.is_integer() and not set(value) & set(".eE") else number


def _number(name: str, end: str, body: Mapping[str, Any]) -> float:
    value = _numeral(body.get(end))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name}.{end} = {value!r} is not a number; a range needs low and high")
    return value


def _ordered(dimensions: list[Dimension], fixed: Mapping[str, Value]) -> Iterator[Dimension]:
    decided = {d.path for d in dimensions} | fixed.keys()
    left = list(dimensions)
    while left:
        waiting = {d.path for d in left}
        ready = [d for d in left if waiting.isdisjoint(_sources(d, decided))]
        if not ready:
            raise InputError(f"space.{left[0].path}: its conditions (when:) go in a circle; remove one of them")
        yield ready[0]
        left.remove(ready[0])


def _sources(dimension: Dimension, decided: Set[str]) -> Iterator[str]:
    """The paths whose values decide whether a dimension has an effect."""
    for path in dimension.when:
        yield path
        if path not in decided:
            yield from TrialSpec.before(path)
