"""The search space: dotted paths of `TrialSpec`, each with an Optuna distribution, read from what a user writes."""

import itertools
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from resnet.names import OF_DATA
from resnet.spec import needs
from search.errors import InputError
from search.spec.plain_yaml import is_list, is_mapping
from search.spec.trial import TrainSpec, TrialSpec, Value, near

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
SIZE = "train.image_size"
SHORT = 100  # whole numbers in a range of which every one is checked
GROWING = ("net.depth", "net.width", SIZE)  # more of these is more parameters and more work, so only the ends are built
CHECKED_COMBINATIONS = 20_000  # of choices and ends of ranges that are built before the first trial


@dataclass(frozen=True)
class Dimension:
    """One searched path. `when` maps other paths to the values under which this one has an effect."""

    path: str
    distribution: Distribution
    when: Mapping[str, tuple[Value, ...]]

    def active(self, chosen: Mapping[str, Value], searched: Collection[str]) -> bool:
        """Whether it has an effect under these values; what is neither chosen nor searched is at its default."""
        for path, values in self.when.items():
            if path not in chosen and path in searched:
                return False
            if (chosen[path] if path in chosen else TrialSpec.default(path, chosen)) not in values:
                return False
        return True

    def holds(self, value: Value) -> bool:
        """Whether it may be chosen."""
        match self.distribution:
            case CategoricalDistribution() as categorical:
                # A choice of 0 for a field that is a float is 0.0 in a trial; but True is not 1.
                kind = isinstance(value, bool)
                return any(value == choice and kind is isinstance(choice, bool) for choice in categorical.choices)
            case FloatDistribution(step=None) as span:
                return isinstance(value, int | float) and span.low <= value <= span.high
            case _:
                numbers = (v for v in self.values or () if isinstance(v, int | float))
                return isinstance(value, int | float) and any(math.isclose(value, v) for v in numbers)

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Every choice, or both ends of the range; of a short range of whole numbers all, as depths have gaps."""
        match self.distribution:
            case CategoricalDistribution() as categorical:
                return tuple(categorical.choices)  # pyright: ignore[reportReturnType]
            case IntDistribution() as span if (span.high - span.low) // span.step < SHORT:
                return tuple(range(span.low, span.high + 1, span.step))
            case FloatDistribution() | IntDistribution() as span:
                return (span.low, span.high)

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest number."""
        numbers = [v for v in self.extremes if isinstance(v, int | float)]
        return min(numbers), max(numbers)

    @property
    def values(self) -> tuple[Value, ...] | None:
        """Every value, or None when there is a continuum."""
        match self.distribution:
            case IntDistribution() as span:
                return tuple(range(span.low, span.high + 1, span.step))
            case FloatDistribution(step=None):
                return None
            case FloatDistribution() as span:
                count = math.floor((span.high - span.low) / (span.step or 1) + 1e-9) + 1
                return tuple(span.low + i * (span.step or 1) for i in range(count))
            case _:
                return self.extremes

    def suggest(self, trial: optuna.Trial) -> Value:
        """What the trial's sampler says of it."""
        match self.distribution:
            case CategoricalDistribution() as d:
                return trial.suggest_categorical(self.path, d.choices)  # pyright: ignore[reportReturnType]
            case FloatDistribution() as d:
                return trial.suggest_float(self.path, d.low, d.high, step=d.step, log=d.log)
            case IntDistribution() as d:
                return trial.suggest_int(self.path, d.low, d.high, step=d.step, log=d.log)

    def describe(self) -> str:
        """The range in words, such as `8 | 14 | 20` or `0.02 ... 0.5 (log)`."""
        match self.distribution:
            case CategoricalDistribution() as categorical:
                text = " | ".join(str(c) for c in categorical.choices)
            case FloatDistribution() | IntDistribution() as span:
                step = f", step {span.step}" if span.step not in (None, 1) else ""
                text = f"{span.low:.15g} ... {span.high:.15g}" + (" (log)" if span.log else step)
        conditions = "; ".join(f"{p} is {' or '.join(map(str, v))}" for p, v in self.when.items())
        return f"{text}  when {conditions}" if conditions else text


@dataclass(frozen=True)
class Space:
    """Dimensions in an order in which conditions are decided before what depends on them, over fixed values."""

    dimensions: tuple[Dimension, ...]
    fixed: Mapping[str, Value]

    @cached_property
    def searched(self) -> frozenset[str]:
        """The paths that are searched, with an effect or without."""
        return frozenset(d.path for d in self.dimensions)

    def draw(self, ask: Callable[[Dimension], Value]) -> dict[str, Value]:
        """Asks for every active dimension; what was answered, with the fixed values."""
        chosen: dict[str, Value] = dict(self.fixed)
        for dimension in self.dimensions:
            if dimension.active(chosen, self.searched):
                chosen[dimension.path] = ask(dimension)
        return chosen

    def specify(self, chosen: Mapping[str, Value]) -> TrialSpec:
        """The trial of an assignment."""
        return TrialSpec.from_flat(chosen)

    def key(self, chosen: Mapping[str, Value]) -> str:
        """Names a configuration: assignments that make the same trial have the same key."""
        return self.specify(chosen).digest

    def parameters(self, chosen: Mapping[str, Value]) -> dict[str, Value] | None:
        """The searched part of an assignment, or of a trial's flat view; None where it is outside of the space."""
        found: dict[str, Value] = {}
        for dimension in self.dimensions:
            if not dimension.active(chosen, self.searched):
                continue
            value = chosen.get(dimension.path)
            if value is None or not dimension.holds(value):
                return None
            found[dimension.path] = value
        return found

    def combinations(self, *, values: bool) -> Iterator[dict[str, Value]]:
        """Assignments over all values of finite dimensions (`values`), or over choices and ends of ranges."""
        yield from _expand(self.dimensions, dict(self.fixed), self.searched, values)

    def size(self, limit: int = 1_000_000) -> int:
        """Number of different assignments of the finite dimensions alone."""
        finite = tuple(d for d in self.dimensions if d.values is not None)
        return sum(1 for _ in itertools.islice(_expand(finite, dict(self.fixed), self.searched, True), limit))

    def networks(self, *others: str) -> "Space":
        """The space of networks on images, and of `others`: their dimensions, and those that decide about them."""
        decide = {SIZE, *others, *(d.path for d in self.dimensions if d.path.startswith("net."))}
        for dimension in reversed(self.dimensions):  # what decides stands before
            if dimension.path in decide:
                decide |= dimension.when.keys()
        return Space(tuple(d for d in self.dimensions if d.path in decide), self.fixed)

    def extremes(self) -> Iterator[TrialSpec]:
        """Networks on images, see `on_images`, among which the smallest and the largest are."""
        nets = self.networks()
        growing = [d for d in nets.dimensions if d.path in GROWING]
        for chosen in nets.combinations(values=False):
            if all(chosen[d.path] in d.ends for d in growing if d.path in chosen):
                yield on_images(TrialSpec.from_flat(chosen))

    def check(self, shape: tuple[int, int]) -> None:
        """Builds the specification of every choice and both ends of every range, for images of `shape` (height, width).

        Raises:
            InputError: naming the field whose value cannot be built, or that never has an effect.
        """
        used: set[str] = set()
        for chosen in self._to_check():
            used |= chosen.keys()
            try:
                trial = TrialSpec.from_flat(chosen)
                trial.net.check_image(*trial.train.sides(shape))
            except ValueError as error:
                raise InputError(str(error)) from None
        for dimension in self.dimensions:
            if dimension.path not in used:
                needs = "; ".join(f"{p} = {' or '.join(map(str, v))}" for p, v in dimension.when.items())
                raise InputError(
                    f"space.{dimension.path} never has an effect: it needs {needs}; remove it or allow that"
                )

    def _to_check(self) -> Iterator[dict[str, Value]]:
        if math.prod(len(d.extremes) for d in self.dimensions) <= CHECKED_COMBINATIONS:
            yield from self.combinations(values=False)
            return
        choose = random.Random(0).choice
        needed = [_needed(self, dimension, value) for dimension in self.dimensions for value in dimension.extremes]
        for forced in [*needed, *[dict[str, Value]()] * CHECKED_COMBINATIONS]:  # each extreme once, then at random
            yield self.draw(lambda d, forced=forced: forced[d.path] if d.path in forced else choose(d.extremes))


def on_images(trial: TrialSpec) -> TrialSpec:
    """The network and the size of its images alone."""
    return TrialSpec(net=trial.net, train=TrainSpec(image_size=trial.train.image_size))


def _expand(
    dimensions: tuple[Dimension, ...], chosen: dict[str, Value], searched: Collection[str], values: bool
) -> Iterator[dict[str, Value]]:
    if not dimensions:
        yield dict(chosen)
        return
    head, rest = dimensions[0], dimensions[1:]
    if not head.active(chosen, searched):
        yield from _expand(rest, chosen, searched, values)
        return
    for value in (head.values if values else head.extremes) or ():
        yield from _expand(rest, {**chosen, head.path: value}, searched, values)


def _needed(space: Space, dimension: Dimension, value: Value) -> dict[str, Value]:
    """This value, and one of each dimension that it depends on, so that it has an effect."""
    needed: dict[str, Value] = {dimension.path: value}
    for other in space.dimensions:
        for condition in other.extremes:
            if condition in dimension.when.get(other.path, ()) and other.path not in needed:
                needed |= _needed(space, other, condition)
    return needed


FROM_DATA = {f"net.{name}" for name in OF_DATA}


def check_path(path: str, before: str = "") -> None:
    """Refuses a path that is no field, or that follows from the data, in a sentence that begins with `before`."""
    if path not in TrialSpec.paths():
        raise InputError(f"{before}{path} is not a field; {near(path)}")
    if path in FROM_DATA:
        raise InputError(f"{before}{path} follows from the data set; remove it")


def make(section: Mapping[str, Any], fixed: Mapping[str, Value]) -> Space:
    """The space of a study's `space:` section over its fixed values."""
    dimensions = [_dimension(path, entry) for path, entry in section.items()]
    return Space(tuple(_ordered(dimensions, fixed)), dict(fixed))


def _dimension(path: str, entry: Any) -> Dimension:
    name = f"space.{path}"
    check_path(path, "space.")
    if path == "train.epochs":
        raise InputError(
            f"{name} cannot be searched: epochs are the budget of every trial; set train.epochs or --epochs"
        )
    if not (is_list(entry) or is_mapping(entry)):
        raise InputError(
            f"{name} = {entry!r} is neither a list of choices nor a range; write [{entry}] or low: and high:"
        )
    body: dict[str, Any] = {"choices": entry} if is_list(entry) else dict(entry)
    given_when: Any = body.pop("when", {})
    if not is_mapping(given_when):
        raise InputError(f"{name}: when = {given_when!r} is no condition; write when: {{net.shortcut: [dropout]}}")
    when: dict[str, tuple[Any, ...]] = {str(k): tuple(v) if is_list(v) else (v,) for k, v in given_when.items()}
    for other in when:
        if other not in TrialSpec.paths():
            raise InputError(f"{name}: when: {other} is not a field; {near(other)}")
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


def _distribution(name: str, path: str, body: dict[str, Any]) -> Distribution:
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
    if not is_list(given) or not given:
        raise InputError(f"{name} = {given!r} offers nothing to choose from; give a list of at least one value")
    for value in given:
        if not isinstance(value, str | int | float | bool):
            raise InputError(f"{name}: {value!r} is no single value; choices are words or numbers")
    if TrialSpec.types()[path] in (int, float):
        given = [_numeral(value) for value in given]
    choices: list[Value] = list(given)
    if len(set(choices)) != len(choices):
        raise InputError(f"{name} = {choices!r} names a choice twice; remove the repetition")
    return choices


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
